"""Data loader workers that are watched: one that dies, raises or hangs is an error that names the image it was at."""

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import wait

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from rfdetr_hwd.data.batch import Batch, Failure, collate
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.handover import Parcel, collate_and_pack
from rfdetr_hwd.data.shared_memory import PREFETCHED, explain_bus_error, say_fewer_workers
from rfdetr_hwd.data.worker_process import leave_to_the_trainer, shared_numbers, undisturbed_context

logger = logging.getLogger(__name__)

_TIMEOUT = 1.0
"""Seconds without a batch after which it is looked whether the processes live, and `Workers.look` is called."""


@dataclass(frozen=True)
class Workers:
    """Data loader workers.

    Attributes:
        count: How many; 0 loads in this process, where nothing can watch it.
        timeout: Seconds to wait for a batch before a process counts as hanging.
        look: Called before each batch and about every second while one is awaited; what it raises ends the loading.
    """

    count: int
    timeout: int
    look: Callable[[], None] = lambda: None

    def describe(self) -> str:
        """Return how many there are, and how far ahead of the training they load."""
        ahead = f"{PREFETCHED * self.count} batches prefetched" if self.count else "images are loaded between the steps"
        return f"data.workers={self.count}, {ahead}"


class _Watched(Dataset[Batch | Failure]):
    """A dataset that notes, in memory shared by all processes, who is at which row: process id, and row or -1."""

    def __init__(self, dataset: DetectionDataset, notes: "ctypes.Array[ctypes.c_longlong]") -> None:
        self.dataset, self.notes = dataset, notes

    def __getitem__(self, key: SampleKey) -> Batch | Failure:
        worker = get_worker_info()
        if worker is None:
            return self.dataset[key]
        place = 2 * worker.id
        self.notes[place], self.notes[place + 1] = os.getpid(), key.row
        sample = self.dataset[key]
        self.notes[place + 1] = -1
        return sample


class _Batches(Sampler[list[SampleKey]]):
    """The batches of one pass; torch asks for them again in each."""

    def __init__(self, batches: list[list[SampleKey]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return iter(self.batches)


@dataclass
class _Loading:
    """A data loader, its current pass, and what its workers note."""

    loader: DataLoader[Batch | Failure]
    batches: _Batches
    watched: _Watched
    iterator: Iterator[Batch | Parcel | Failure]


class WorkerPool:
    """Data loader workers of one dataset. They start with the first pass and serve all further ones.

    Args:
        dataset: The images. It must not change afterwards: the workers would not know.
        workers: How many, and how they are watched.
    """

    def __init__(self, dataset: DetectionDataset, workers: Workers) -> None:
        self.dataset, self.workers = dataset, workers
        self._loading: _Loading | None = None

    def serve(self, batches: list[list[SampleKey]]) -> Iterator[Batch]:
        """Yield the batches of one pass in order; where workers cannot be started, from this process.

        Raises:
            DatasetError: A sample cannot be made, or a process died or gave nothing for `workers.timeout` seconds.
        """
        loading = self._loading = self._begin(batches)
        while True:
            try:
                batch = _next(loading.iterator, self.workers)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:  # the latter where it died while handing over a batch
                self._loading = None
                raise DatasetError(_explain(str(error), loading, self.workers)) from None
            if isinstance(batch, Failure):
                raise DatasetError(batch.reason)
            yield batch.unpack() if isinstance(batch, Parcel) else batch

    def _begin(self, batches: list[list[SampleKey]]) -> _Loading:
        """Begin a pass with the workers that there are. Those that do not answer are replaced."""
        loading, self._loading = self._loading, None
        if loading is not None:
            loading.batches.batches = batches
            try:
                loading.iterator = iter(loading.loader)
                return loading
            except (RuntimeError, OSError, EOFError) as error:
                logger.warning("data loader workers do not answer and are replaced: %s", str(error).splitlines()[0])
                loading = None  # ends them
        return _start(self.dataset, batches, self.workers)


def _start(dataset: DetectionDataset, batches: list[list[SampleKey]], workers: Workers) -> _Loading:
    """Start the workers; where there is no room or permission for all, say so and start fewer, or load here."""
    count, reason = workers.count, ""
    while count:
        try:
            loading = _load(dataset, batches, replace(workers, count=count))
            break
        except (OSError, ImportError) as error:  # of semaphores, of memory, of processes
            reason = str(error)
            _clear_away(error)
        count //= 2
    else:
        loading = _load(dataset, batches, replace(workers, count=0))
    if reason:
        say_fewer_workers(workers.count, count, reason)
    return loading


def _clear_away(error: Exception) -> None:
    """Let go of a loader that is half made: torch ends its processes, but fails on the way, which is no news."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        gc.collect()
    finally:
        sys.unraisablehook = hook


def _load(dataset: DetectionDataset, batches: list[list[SampleKey]], workers: Workers) -> _Loading:
    # Create the loader without side effects on the trainer: its signals, its random generator
    context = undisturbed_context() if workers.count else None
    watched, sampler = _Watched(dataset, shared_numbers(2 * max(1, workers.count))), _Batches(batches)
    loader = DataLoader(
        watched,
        batch_sampler=sampler,  # keys, where torch expects whole numbers
        num_workers=workers.count,
        prefetch_factor=PREFETCHED if workers.count else None,
        persistent_workers=workers.count > 0,
        collate_fn=collate_and_pack if workers.count else collate,
        pin_memory=torch.cuda.is_available(),
        timeout=min(_TIMEOUT, workers.timeout) if workers.count else 0,  # after which torch looks for dead processes
        multiprocessing_context=context,
        worker_init_fn=leave_to_the_trainer,
        generator=torch.Generator(),  # or each new iterator would draw from the generator that dropout draws from
    )
    with _children_unwatched():
        return _Loading(loader, sampler, watched, iter(loader))


def _next(iterator: Iterator[Batch | Parcel | Failure], workers: Workers) -> Batch | Parcel | Failure:
    """Return the next batch; torch's error says that a process died, or gave nothing for `workers.timeout` seconds."""
    end = time.monotonic() + workers.timeout
    while True:
        workers.look()
        try:
            return next(iterator)
        except RuntimeError as error:
            if "timed out" not in str(error) or time.monotonic() >= end:
                raise


@contextmanager
def _children_unwatched() -> Iterator[None]:
    """Keep torch from handling SIGCHLD: it would raise in the middle of whatever runs when a process dies."""
    if threading.current_thread() is not threading.main_thread():  # where there are no signal handlers
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _explain(error: str, loading: _Loading, workers: Workers) -> str:
    """Return which image the process was at that torch says died or hangs."""
    # Find out how the worker ended, and which images were read
    notes = list(zip(loading.watched.notes[::2], loading.watched.notes[1::2], strict=True))
    if "timed out" in error:
        what = f"a data loader worker returned no batch for {workers.timeout} seconds (data.worker_timeout)"
        rows = [row for _, row in notes if row >= 0]
    else:
        processes = getattr(loading.iterator, "_workers", [])
        closing = wait([process.sentinel for process in processes], timeout=_TIMEOUT)
        for process in processes:
            if process.sentinel in closing:  # it has closed its files, and may not have ended yet
                process.join(_TIMEOUT)
        ended = {process.pid: process.exitcode for process in processes if process.exitcode}
        how = [_explain_end(status) for status in ended.values()] or [error.strip().splitlines()[0]]
        what = f"a data loader worker ended: {how[0]}" if ended else f"a batch did not arrive: {how[0]}"
        rows = [row for process, row in notes if row >= 0 and process in ended]

    # Name the images
    data = loading.watched.dataset.data
    names = [f"image {data.image_ids[row]} of {data.name} ({data.path(row)})" for row in rows]
    reading = ", ".join(names) or "no image"
    return f"{what}. It was reading {reading}. Check the file, or set data.workers=0 for a full error"


def _explain_end(status: int) -> str:
    """Return what the exit status of a process means, as `multiprocessing` gives it."""
    if status == -signal.SIGBUS:
        return explain_bus_error()
    if status == -signal.SIGKILL:
        return "killed by SIGKILL, probably because the system ran out of memory (reduce data.workers)"
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
