"""The rate of a loader, as it is measured."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from rfdetr_hwd.training import step_profile
from rfdetr_hwd.training.step_profile import _loader_rate


@pytest.mark.parametrize(("workers", "rate"), [(0, 8.0), (1, 8.0), (8, 64.0)])
def test_the_rate_of_a_loader_is_that_of_all_its_workers(
    workers: int, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each makes a batch of 8 images in a second, and all begin together, so the batches come in bursts."""
    now = 0.0

    def batches() -> Iterator[Any]:
        nonlocal now
        while True:
            now += 1.0
            yield from range(max(1, workers))

    monkeypatch.setattr(step_profile.time, "perf_counter", lambda: now)
    loader: Any = SimpleNamespace(workers=SimpleNamespace(count=workers), order=SimpleNamespace(batch_size=8))
    assert _loader_rate(batches(), loader) == rate
