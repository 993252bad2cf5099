"""Being asked to stop: a signal or a time limit sets a flag, and the loop looks at it where it can stop well."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rfdetr_hwd.engine.distributed import max_over_ranks
from rfdetr_hwd.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
TIME_LIMIT_CODE = 124
"""Exit status of a run that reached `train.max_hours`: that of timeout(1)."""


class StopRequest:
    """The flag.

    The first signal sets it and gives all of them their default action back, so a second one ends the process at once,
    wherever it is. Loader processes inherit the handler, so a signal to the whole process group leaves them serving.

    Args:
        max_hours: Hours after which the run is to stop; `None`: never.
    """

    def __init__(self, max_hours: float | None = None) -> None:
        self._deadline = float("inf") if max_hours is None else time.monotonic() + 3600 * max_hours
        self._signal = 0
        self._raises = False

    @property
    def code(self) -> int:
        """Exit status asked for in this process; 0: none."""
        if self._signal:
            return 128 + self._signal
        return TIME_LIMIT_CODE if time.monotonic() >= self._deadline else 0

    def agreed_code(self) -> int:
        """Return the exit status that any rank was asked for; every rank calls it in the same place."""
        return max_over_ranks(self.code)

    def check(self) -> None:
        """End the process if any rank was asked to; every rank calls it in the same place.

        Raises:
            Interrupted: A rank was asked to stop.
        """
        code = self.agreed_code()
        if code:
            raise Interrupted(code)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals; afterwards the handlers are as they were."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals belong to the main thread
            return
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Where nothing needs saving: a signal to this process ends it from the inside, without waiting for a check."""
        self._raises = True
        try:
            if self._signal:
                raise Interrupted(self.code)
            yield
        finally:
            self._raises = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        self._signal = number
        for other in SIGNALS:
            signal.signal(other, signal.SIG_DFL)
        if self._raises:
            raise Interrupted(self.code)
