"""Loader processes that are watched: one that dies, raises or hangs is an error that names the image it was at."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from rfdetr_hwd.data.dataset import Batch, DetectionDataset, Failure, SampleKey, collate
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.handover import (
    PREFETCH,
    Parcel,
    check_shared_memory,
    collate_parcel,
    describe_shared_memory,
    explain_no_workers,
)
from rfdetr_hwd.data.worker_process import leave_to_the_trainer, undisturbed_context

_PATIENCE = 1.0
"""Seconds without a batch after which it is looked whether the processes live, and `Workers.look` is called."""


_BYTES_OF_A_VALUE = 4  # float32

_Served = Batch | Parcel | Failure


@dataclass(frozen=True)
class Workers:
    """Loader processes.

    Attributes:
        count: How many; 0 loads in this process, where nothing can watch it.
        timeout: Seconds to wait for a batch before a process counts as hanging.
        look: Called before each batch and about every second while one is awaited; what it raises ends the loading.
    """

    count: int
    timeout: int
    look: Callable[[], None] = lambda: None


class _Watched(Dataset[Batch | Failure]):
    """A dataset that notes, in memory shared by all processes, who is at which row: (process id, row or -1)."""

    def __init__(self, dataset: DetectionDataset, notes: Tensor) -> None:
        self.dataset, self.notes = dataset, notes

    def __getitem__(self, key: SampleKey) -> Batch | Failure:
        worker = get_worker_info()
        if worker is None:
            return self.dataset[key]
        note = self.notes[worker.id]
        note[0], note[1] = os.getpid(), key.row
        sample = self.dataset[key]
        note[1] = -1
        return sample


def serve(dataset: DetectionDataset, batches: list[list[SampleKey]], workers: Workers) -> Iterator[Batch]:
    """Yield batches in order.

    Raises:
        DatasetError: A sample cannot be made, or a process died or gave nothing for `workers.timeout` seconds.
    """
    is_parallel = workers.count > 0
    if is_parallel and batches:
        largest = max(len(keys) * max(key.resolution for key in keys) ** 2 for keys in batches)
        check_shared_memory(largest * 3 * _BYTES_OF_A_VALUE, workers.count)
    notes = torch.full((max(1, workers.count), 2), -1, dtype=torch.int64)
    try:
        with _children_unwatched():
            iterator = iter(_loader(dataset, batches, workers, notes.share_memory_() if is_parallel else notes))
    except (RuntimeError, OSError) as error:
        raise DatasetError(explain_no_workers(error)) from None
    while True:
        try:
            batch = _next(iterator, workers)
        except StopIteration:
            return
        except (RuntimeError, OSError, EOFError) as error:  # the latter where it died while handing over a batch
            raise DatasetError(_explain(str(error), dataset, notes, workers)) from None
        if isinstance(batch, Failure):
            raise DatasetError(batch.reason)
        yield batch.open() if isinstance(batch, Parcel) else batch


def _loader(
    dataset: DetectionDataset, batches: list[list[SampleKey]], workers: Workers, notes: Tensor
) -> "DataLoader[_Served]":
    """Return torch's loader of the batches, in their order."""
    is_parallel = workers.count > 0
    return DataLoader(
        _Watched(dataset, notes),
        batch_sampler=batches,  # keys, where torch expects whole numbers
        num_workers=workers.count,
        prefetch_factor=PREFETCH if is_parallel else None,
        collate_fn=collate_parcel if is_parallel else collate,
        pin_memory=torch.cuda.is_available(),
        timeout=min(_PATIENCE, workers.timeout) if is_parallel else 0,  # after which torch looks for dead processes
        multiprocessing_context=undisturbed_context() if is_parallel else None,
        worker_init_fn=leave_to_the_trainer,
        generator=torch.Generator(),  # or each new iterator would draw from the generator that dropout draws from
    )


def _next(iterator: Iterator[_Served], workers: Workers) -> _Served:
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


def _explain(error: str, dataset: DetectionDataset, notes: Tensor, workers: Workers) -> str:
    """Return which image the process was at that torch says died or hangs."""
    if "timed out" in error:
        what = f"a loader process gave nothing for {workers.timeout} seconds (data.worker_timeout)"
        rows = [row for _, row in notes.tolist() if row >= 0]
    else:
        what = f"a loader process ended: {error.strip().splitlines()[0]}"
        if "Bus error" in error:  # what a process dies of that writes into shared memory which is not there
            what += f". {describe_shared_memory()}"
        rows = [row for process, row in notes.tolist() if row >= 0 and _is_dead(process)]
    data = dataset.data
    names = [f"image {data.image_ids[row]} of {data.name} ({data.path(row)})" for row in rows]
    return f"{what}; it was at {', '.join(names) or 'no image'}. Look at it, or set data.workers=0 to see more"


def _is_dead(process: int) -> bool:
    """Return whether a process has ended; where the system does not tell, every process is suspected."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
