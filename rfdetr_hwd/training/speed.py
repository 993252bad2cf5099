"""Training speed: images trained on, over the time spent in training; and peak memory."""

import resource
import sys
import time
from collections.abc import Callable

import torch

PREFIX = "speed/"
"""Start of the names of values that differ from run to run: trackers keep them apart from the metrics."""


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
        >>> values = speed.take()
        >>> values["speed/images_per_second"], values["speed/seconds_per_step"]
        (3.0, 2.0)
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

    def take(self) -> dict[str, float]:
        """Return the speed since the last call, and the peak memory of this process in GiB. Reset the stopwatch."""
        values = {
            "images_per_second": self._images / max(self._seconds, 1e-9),
            "seconds_per_step": self._seconds / max(1, self._steps),
            "memory_gib": peak_memory() / 2**30,
        }
        self._images, self._steps, self._seconds = 0, 0, 0.0
        return {PREFIX + name: value for name, value in values.items()}


def peak_memory() -> int:
    """Return the peak memory of this process in bytes: GPU memory if there is a GPU, else resident memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
