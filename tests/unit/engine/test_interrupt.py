"""A request to stop sets a flag; where nothing needs saving it ends the process from the inside."""

import signal

import pytest

from rfdetr_hwd.engine import interrupt
from rfdetr_hwd.engine.interrupt import SIGNALS, StopRequest
from rfdetr_hwd.errors import Interrupted


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_flag_until_it_is_looked_at(number: int) -> None:
    before = [signal.getsignal(other) for other in SIGNALS]
    stop = StopRequest()
    with stop.listening():
        stop.check()
        signal.raise_signal(number)
        assert stop.agreed_code() == 128 + number
        assert [signal.getsignal(other) for other in SIGNALS] == [signal.SIG_DFL] * 3  # a second one ends the process
        with pytest.raises(Interrupted) as caught:
            stop.check()
    assert caught.value.code == 128 + number
    assert [signal.getsignal(other) for other in SIGNALS] == before


def test_at_once_it_ends_the_process_from_the_inside() -> None:
    stop = StopRequest()
    with stop.listening():
        with pytest.raises(Interrupted), stop.at_once():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted), stop.at_once():
            raise AssertionError("it was asked before")


def test_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now)
    stop = StopRequest(max_hours=0.5)
    now += 1799
    assert stop.code == 0
    now += 1
    assert stop.code == 124
