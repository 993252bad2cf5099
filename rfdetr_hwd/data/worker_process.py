"""Data loader workers that ignore signals to stop, which the training process handles.

A scheduler or a terminal signals every process of a job. If a data loader worker ended, the current step would fail. So
the workers ignore the signals, and the training process ends them by SIGKILL, which cannot be ignored.
"""

import ctypes
import mmap
import multiprocessing
import multiprocessing.context
import multiprocessing.popen_fork
import multiprocessing.popen_spawn_posix
import signal
import sys
from types import TracebackType

from rfdetr_hwd.data.handover import HandoverQueue
from rfdetr_hwd.errors import STOP_SIGNALS


class _Forked(multiprocessing.popen_fork.Popen):
    def terminate(self) -> None:
        self.kill()


class _ForkProcess(multiprocessing.context.ForkProcess):
    @staticmethod
    def _Popen(process_obj: object) -> _Forked:  # noqa: N802 the name that multiprocessing calls
        return _Forked(process_obj)  # type: ignore[arg-type]


class _ForkContext(multiprocessing.context.ForkContext):
    Process = _ForkProcess

    def Queue(self, maxsize: int = 0) -> HandoverQueue:  # noqa: N802 as above
        return HandoverQueue(maxsize, ctx=self.get_context())


class _Spawned(multiprocessing.popen_spawn_posix.Popen):
    def terminate(self) -> None:
        self.kill()


class _SpawnProcess(multiprocessing.context.SpawnProcess):
    @staticmethod
    def _Popen(process_obj: object) -> _Spawned:  # noqa: N802 the name that multiprocessing calls
        return _Spawned(process_obj)  # type: ignore[arg-type]


class _SpawnContext(multiprocessing.context.SpawnContext):
    Process = _SpawnProcess


def undisturbed_context() -> multiprocessing.context.BaseContext:
    """Return the context of data loader workers: forked on Linux, spawned on macOS, which fork may break."""
    return _ForkContext() if sys.platform == "linux" else _SpawnContext()


def shared_numbers(count: int) -> "ctypes.Array[ctypes.c_longlong]":
    """Return whole numbers, all -1, that data loader workers share with the process that makes them."""
    if sys.platform != "linux":
        return multiprocessing.RawArray(ctypes.c_longlong, [-1] * count)
    memory = mmap.mmap(-1, count * ctypes.sizeof(ctypes.c_longlong))  # /dev/shm, where an array would be, may be full
    numbers = (ctypes.c_longlong * count).from_buffer(memory)
    numbers[:] = [-1] * count
    return numbers


def leave_to_the_trainer(_: int) -> None:
    """Ignore what the process that trains answers, and that it may go; called first in each data loader worker."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error that nobody handles, unless it is that the other side left while a batch was handed over."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)
