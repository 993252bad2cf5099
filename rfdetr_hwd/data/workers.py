"""Loader processes that are watched: one that dies, raises or hangs is an error that names the image it was at."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from rfdetr_hwd.data.dataset import Batch, DetectionDataset, Failure, SampleKey, collate
from rfdetr_hwd.data.findings import DatasetError


@dataclass(frozen=True)
class Workers:
    """Loader processes.

    Attributes:
        count: How many; 0 loads in this process, where nothing can watch it.
        timeout: Seconds to wait for a batch before a process counts as hanging.
    """

    count: int
    timeout: int


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
    notes = torch.full((max(1, workers.count), 2), -1, dtype=torch.int64).share_memory_()
    loader = DataLoader(
        _Watched(dataset, notes),
        batch_sampler=batches,  # keys, where torch expects whole numbers
        num_workers=workers.count,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        timeout=workers.timeout if workers.count else 0,
        generator=torch.Generator(),  # or each new iterator would draw from the generator that dropout draws from
    )
    iterator, problem = iter(loader), ""
    while not problem:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            problem = _explain(str(error), dataset, notes, workers)
            continue
        if isinstance(batch, Failure):
            raise DatasetError(batch.reason)
        yield batch
    with _children_unwatched():
        del iterator  # ends the other processes
    raise DatasetError(problem)


@contextmanager
def _children_unwatched() -> Iterator[None]:
    """Keep torch's signal handler from reporting a dead process again, in the middle of whatever comes next."""
    if threading.current_thread() is not threading.main_thread():  # where there are no signal handlers
        yield
        return
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
        listed = re.search(r"pid(?:\(s\))? ([\d, ]+)", error)
        dead = {int(number) for number in listed[1].split(",")} if listed else set()
        what = f"a loader process ended: {error.strip().splitlines()[0]}"
        rows = [row for process, row in notes.tolist() if row >= 0 and process in dead]
    data = dataset.data
    names = [f"image {data.image_ids[row]} of {data.name} ({data.path(row)})" for row in rows]
    return f"{what}; it was at {', '.join(names) or 'no image'}. Look at it, or set data.workers=0 to see more"
