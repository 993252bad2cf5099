"""Where the time of a step goes. Code marks the end of each of its parts; a mark does nothing unless it is measured.

A part is what happened since the last mark, so the parts of a step add up to the step.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from rfdetr_hwd.runtime.timing import wait_for


class Laps:
    """The time of each part, over all steps.

    Args:
        device: The device that the parts compute on. A GPU is waited for at every mark.
        clock: Returns seconds.

    Attributes:
        seconds: Time of each part, in order of first appearance.
        steps: Seconds of each step.

    Example:
        >>> times = iter([0.0, 1.0, 3.0, 4.0, 8.0])
        >>> laps = Laps(torch.device("cpu"), lambda: next(times))
        >>> for _ in range(2):
        ...     laps.end("forward")
        ...     laps.end("backward")
        ...     laps.end_step()
        >>> laps.seconds, laps.steps
        ({'forward': 2.0, 'backward': 6.0}, [3.0, 5.0])
    """

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self._clock = device, clock
        self.seconds: dict[str, float] = {}
        self.steps: list[float] = []
        wait_for(device)
        self._begun = self._since = clock()

    def end(self, name: str) -> None:
        """End a part, and begin the next one."""
        wait_for(self.device)
        now = self._clock()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def end_step(self) -> None:
        """End a step, with its last part."""
        self.steps.append(self._since - self._begun)
        self._begun = self._since


_measured: Laps | None = None


def lap(name: str) -> None:
    """Mark the end of a part."""
    if _measured is not None:
        _measured.end(name)


@contextmanager
def measuring_laps(device: torch.device) -> Iterator[Laps]:
    """Measure the parts that are marked in the block."""
    global _measured
    _measured = Laps(device)
    try:
        yield _measured
    finally:
        _measured = None
