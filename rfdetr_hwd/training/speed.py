"""Training speed: images trained on, over the time spent in training."""

import time
from collections.abc import Callable
from typing import NamedTuple


class Pace(NamedTuple):
    """The speed since the last call of `take`.

    Attributes:
        images_per_second: Images trained on, over all ranks.
        seconds_per_step: Seconds of an optimizer step.
    """

    images_per_second: float
    seconds_per_step: float


class Speed:
    """A stopwatch that runs while images are loaded and steps are made, not while the run evaluates or saves.

    Args:
        clock: Returns seconds.

    Example:
        >>> times = iter([0.0, 2.0, 10.0, 12.0])
        >>> speed = Speed(lambda: next(times))
        >>> for images in (8, 4):
        ...     speed.start()
        ...     speed.stop(images)
        >>> speed.take()
        Pace(images_per_second=3.0, seconds_per_step=2.0)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = 0.0
        self._images, self._steps, self._seconds = 0, 0, 0.0

    def start(self) -> None:
        """Begin to wait for the images of a step."""
        self._since = self._clock()

    def stop(self, images: int) -> None:
        """End a step.

        Args:
            images: Images of the step, over all ranks.
        """
        self._seconds += self._clock() - self._since
        self._images += images
        self._steps += 1

    def take(self) -> Pace:
        """Return the speed since the last call, and reset the stopwatch."""
        pace = Pace(self._images / max(self._seconds, 1e-9), self._seconds / max(1, self._steps))
        self._images, self._steps, self._seconds = 0, 0, 0.0
        return pace
