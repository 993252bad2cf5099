"""Loader processes that signals do not disturb: whoever is asked to stop is the process that trains.

A scheduler or a terminal signals every process of a job. A loader process that ended then would take the update under
way with it; so these ignore the signals, and the process that trains ends them by SIGKILL, which nothing ignores.
"""

import multiprocessing.context
import multiprocessing.popen_fork
import signal
import sys
from types import TracebackType

from rfdetr_hwd.data.handover import HandoverQueue
from rfdetr_hwd.errors import STOP_SIGNALS


class _Popen(multiprocessing.popen_fork.Popen):
    def terminate(self) -> None:
        self.kill()


class _Process(multiprocessing.context.ForkProcess):
    @staticmethod
    def _Popen(process_obj: object) -> _Popen:  # noqa: N802 the name that multiprocessing calls
        return _Popen(process_obj)  # type: ignore[arg-type]


class _Context(multiprocessing.context.ForkContext):
    Process = _Process

    def Queue(self, maxsize: int = 0) -> HandoverQueue:  # noqa: N802 as above
        return HandoverQueue(maxsize, ctx=self.get_context())


def undisturbed_context() -> multiprocessing.context.BaseContext | None:
    """Return the context that loader processes are made in; `None`, torch's own, where processes are not forked."""
    return _Context() if sys.platform == "linux" else None


def leave_to_the_trainer(_: int) -> None:
    """Ignore what the process that trains answers, and that it may go; called first in each loader process."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that nobody handles, unless it is that the other side left while a batch was handed over."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)
