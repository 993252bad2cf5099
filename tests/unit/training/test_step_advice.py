"""The advice follows from the measurements: of two changes the one that saves more."""

from dataclasses import replace

import pytest

from rfdetr_hwd.runtime.timing import Spread
from rfdetr_hwd.training.step_advice import advise
from rfdetr_hwd.training.step_profile import StepProfile

COMPUTING = StepProfile(
    seconds={"data": 0.02, "forward": 0.3, "backward": 0.6, "optimizer": 0.08},
    step=Spread(1.0, 1.1),
    images=16,
    micro_batch=4,
    workers=2,
    loader_rate=100.0,
    doubled=None,
    peak_bytes=1 << 30,
    precision="float32",
)
WAITING = replace(COMPUTING, seconds={"data": 0.6, "forward": 0.1, "backward": 0.3}, loader_rate=16.0)


def test_a_step_that_computes_has_nothing_obvious() -> None:
    assert advise(COMPUTING, 8) == "nothing obvious: the forward and backward passes are 90% of a step"


def test_a_step_that_waits_needs_more_workers() -> None:
    """It takes 16 images in 0.4 s without waiting, 40 a second: 2.5 times what two workers give."""
    assert advise(WAITING, 8) == (
        "data.workers=5. 60% of a step is waiting for images: the loader alone gives 16.0 images/s with "
        "data.workers=2, a step without waiting takes 40.0"
    )


@pytest.mark.parametrize(("workers", "cores", "start"), [(0, 8, "data.workers=3."), (2, 4, "data.workers=4.")])
def test_workers_are_as_many_as_it_takes_and_cores_allow(workers: int, cores: int, start: str) -> None:
    assert advise(replace(WAITING, workers=workers), cores).startswith(start)


def test_no_workers_are_advised_beyond_the_cores() -> None:
    advice = advise(replace(WAITING, workers=4), 4)
    assert advice.endswith("All 4 CPU cores load images: store them smaller, or use more cores")
    assert advice.startswith("60% of a step is waiting")


@pytest.mark.parametrize(
    ("doubled", "advised"), [((8, 0.8), True), ((8, 0.96), False), ((8, 1.2), False), ((8, None), False)]
)
def test_a_larger_pass_is_advised_where_it_was_measured_to_help(
    doubled: tuple[int, float | None], advised: bool
) -> None:
    advice = advise(replace(COMPUTING, doubled=doubled), 8)
    assert advice.startswith("train.micro_batch=8. It was measured" if advised else "nothing obvious")


@pytest.mark.parametrize(("factor", "start"), [(0.5, "data.workers"), (0.3, "train.micro_batch")])
def test_the_change_that_saves_more_is_advised(factor: float, start: str) -> None:
    assert advise(replace(WAITING, doubled=(8, factor)), 8).startswith(start)
