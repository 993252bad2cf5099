"""Stop requests: a signal or a time limit sets a flag, and the loop checks it where it can stop cleanly."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from rfdetr_hwd.errors import STOP_SIGNALS, Interrupted, answered_signals
from rfdetr_hwd.runtime.distributed import max_over_ranks

TIME_LIMIT_CODE = 124
"""Exit status of a run that reached `train.max_hours`: that of timeout(1)."""


REPEAT_SECONDS = 1.0
"""Signals within this time are one request: a scheduler signals a rank, and so does its launcher."""


class StopRequest:
    """The flag.

    The first signal sets it. A later one ends the process at once: a thread sees it even while the main thread waits in
    native code, for example for another rank.

    Args:
        max_hours: Hours until the run stops, counted from the start of the launcher if there is one; `None`: never.
    """

    def __init__(self, max_hours: float | None = None) -> None:
        self._deadline = float("inf") if max_hours is None else _started() + 3600 * max_hours
        self._signal, self._asked_at = 0, float("inf")
        self._raises = False

    @property
    def code(self) -> int:
        """Exit status requested in this process; 0: none."""
        if self._signal:
            return 128 + self._signal
        return TIME_LIMIT_CODE if time.monotonic() >= self._deadline else 0

    def code_on_any_rank(self) -> int:
        """Return the exit status requested on any rank. Every rank calls it in the same place."""
        return max_over_ranks(self.code)

    def raise_if_requested_here(self) -> None:
        """End a wait of this process. The caller that catches the exception tells the other ranks.

        Raises:
            Interrupted: This process was asked to stop.
        """
        if self.code:
            raise Interrupted(self.code)

    def check(self) -> None:
        """Stop if any rank was asked to. Every rank calls it in the same place.

        Raises:
            Interrupted: A rank was asked to stop.
        """
        code = self.code_on_any_rank()
        if code:
            raise Interrupted(code)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals. The former handlers are restored afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals belong to the main thread
            return
        # Handle each signal, and watch for a repeated one in a thread, which runs even if this one hangs.
        before = {number: signal.signal(number, self._handle) for number in answered_signals()}
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        threading.Thread(target=self._watch, args=(reading,), daemon=True).start()
        wakeup = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            writing.close()  # ends the thread

    @contextmanager
    def raise_immediately(self) -> Iterator[None]:
        """Raise from the signal handler, without waiting for a check. For code where nothing needs saving."""
        self._raises = True
        try:
            if self._signal:
                raise Interrupted(self.code)
            yield
        finally:
            self._raises = False

    def _handle(self, number: int, _: FrameType | None) -> None:
        if not self._signal:
            self._signal = number
            if self._raises:
                raise Interrupted(self.code)

    def _watch(self, signals: socket.socket) -> None:
        """Exit at once on a repeated signal. The interpreter writes the number of each signal as it arrives."""
        with signals:
            while received := signals.recv(1):
                now = time.monotonic()
                if received[0] not in STOP_SIGNALS:
                    continue
                if now - self._asked_at > REPEAT_SECONDS:
                    os._exit(128 + received[0])
                self._asked_at = min(self._asked_at, now)


def _started() -> float:
    """Return when the run was started, on the clock of `time.monotonic`; a launcher may have started ranks before."""
    now = time.monotonic()
    if "TORCHELASTIC_RUN_ID" not in os.environ or sys.platform != "linux":  # macOS has neither /proc nor that clock
        return now
    with suppress(OSError, ValueError, IndexError):  # the system may not say
        ticks = int(Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19])
        return min(now, now - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK"))
    return now
