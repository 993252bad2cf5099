"""One way of timing: a warm-up, turns, the median and the p95; and marks whose parts add up to a step."""

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rfdetr_hwd.runtime import timing
from rfdetr_hwd.runtime.laps import lap, measuring_laps

CPU = torch.device("cpu")


class Clock:
    """A clock that the timed functions set forward."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def passing(self, *seconds: float) -> "Clock._Passing":
        return self._Passing(self, list(seconds))

    class _Passing:
        def __init__(self, clock: "Clock", seconds: list[float]) -> None:
            self.clock, self.seconds = clock, seconds

        def __call__(self) -> None:
            self.clock.now += self.seconds.pop(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_functions_take_turns_after_a_warm_up(clock: Clock) -> None:
    a, b = clock.passing(9, 9, 1, 2, 3), clock.passing(8, 8, 5, 6, 7)
    assert timing.time_in_turns({"a": a, "b": b}, CPU, rounds=3) == {"a": [1e3, 2e3, 3e3], "b": [5e3, 6e3, 7e3]}
    assert a.seconds == b.seconds == []


def test_a_time_is_the_mean_of_its_calls(clock: Clock) -> None:
    assert timing.milliseconds(clock.passing(1, 2, 6), CPU, calls=3) == 3e3


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=40))
def test_median_and_p95_are_those_of_numpy(times: list[float]) -> None:
    median, p95 = timing.spread(times)
    assert median == statistics.median(times)
    assert p95 == pytest.approx(np.percentile(times, 95), abs=1e-8)


def test_marks_are_measured_inside_the_block_alone() -> None:
    lap("before")
    with measuring_laps(CPU) as laps:
        lap("forward")
        lap("backward")
        lap("forward")
        laps.end_step()
    lap("after")
    assert list(laps.seconds) == ["forward", "backward"]
    assert sum(laps.seconds.values()) == pytest.approx(laps.steps[0], abs=1e-9)


def test_an_error_ends_the_measurement() -> None:
    with pytest.raises(KeyError), measuring_laps(CPU) as laps:
        raise KeyError
    lap("after")
    assert laps.seconds == {}
