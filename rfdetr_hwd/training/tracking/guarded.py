"""A tracker that fails costs its lines, never the run."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rfdetr_hwd.training.trackers import Pictures, Tracker, Values

_MAX_FAILURES = 3
"""Failures in a row after which a tracker is left alone: a server that is down may take minutes for each."""

logger = logging.getLogger(__name__)


class Guarded:
    """A tracker whose failures are reported once.

    Args:
        name: Its name in the message.
        build: Opens it.
    """

    def __init__(self, name: str, build: Callable[[], Tracker]) -> None:
        self._name, self._failures, self._is_reported = name, 0, False
        self._tracker: Tracker | None = None
        with self._caught():
            self._tracker = build()

    def log(self, step: int, values: Values) -> None:
        """Pass the values on."""
        with self._caught():
            if self._tracker is not None:
                self._tracker.log(step, values)

    def show(self, step: int, pictures: Pictures) -> None:
        """Pass the pictures on."""
        with self._caught():
            if self._tracker is not None:
                self._tracker.show(step, pictures)

    def close(self) -> None:
        """Close it."""
        with self._caught():
            if self._tracker is not None:
                self._tracker.close()

    @contextmanager
    def _caught(self) -> Iterator[None]:
        try:
            yield
            self._failures = 0
        except Exception as error:  # of any library
            self._failures += 1
            if self._failures == _MAX_FAILURES:
                self._tracker = None
            if not self._is_reported:
                self._is_reported = True
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                logger.warning("the tracker %s failed: %s. The run continues without its lines", self._name, reason)
