"""Send batches from data loader workers: images through shared memory, or through the pipe if it is full.

By default, torch sends every tensor through shared memory, with an open file each, in a thread whose errors are lost: a
batch that does not fit would never arrive. Here only images use shared memory, and the worker sees if that fails.
"""

import contextlib
import multiprocessing.queues
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rfdetr_hwd.data.batch import Batch, Failure, collate
from rfdetr_hwd.data.shared_memory import FOLDER, say_shortage


@dataclass(frozen=True)
class Parcel:
    """A batch on its way from a worker to the process that trains.

    Attributes:
        images: In shared memory, or an array, which goes through the pipe.
        batch: Everything else, without its tensors.
        arrays: Labels, boxes and sizes, which go through the pipe.
        shortage: Why the images do not go through shared memory. `None` if they do, or if there are none.
    """

    images: Tensor | NDArray[np.uint8]
    batch: Batch
    arrays: tuple[NDArray[Any], ...]
    shortage: str | None = None

    def through_the_pipe(self, reason: str | None) -> "Parcel":
        """Return the parcel with its images in an array."""
        return replace(self, images=np.asarray(self.images), shortage=reason)

    def unpack(self) -> Batch:
        """Return the batch, and warn once if shared memory is short."""
        labels, boxes, sizes = map(torch.from_numpy, self.arrays)
        if self.shortage is not None:
            say_shortage(self.images.nbytes, self.shortage)
        return replace(
            self.batch,
            images=torch.as_tensor(self.images),
            packed=replace(self.batch.packed, labels=labels, boxes=boxes),
            sizes=sizes,
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; the loader calls it."""
        return self.unpack().pin_memory()


def collate_and_pack(items: list[Batch | Failure]) -> Parcel | Failure:
    """Join batches in a worker, and pack the result for sending; see `rfdetr_hwd.data.batch.collate`."""
    batch = collate(items)
    return batch if isinstance(batch, Failure) else pack(batch)


def pack(batch: Batch) -> Parcel:
    """Put the images of a batch into shared memory, if they fit."""
    nothing, packed = torch.empty(0), batch.packed
    rest = replace(batch, images=nothing, packed=packed.apply(lambda _: nothing), sizes=nothing)
    parcel = Parcel(batch.images, rest, tuple(map(np.asarray, (packed.labels, packed.boxes, batch.sizes))))
    if not batch.images.numel():
        return parcel.through_the_pipe(None)
    try:
        batch.images.share_memory_()  # it is allocated at once, so that writing to it raises no bus error
    except RuntimeError as error:
        _remove_empty_segments()
        return parcel.through_the_pipe(str(error).splitlines()[0])
    return parcel


def _remove_empty_segments() -> None:
    """Remove the empty files that torch leaves after a failed allocation: each takes one of few inodes."""
    for path in Path(FOLDER).glob(f"torch_{os.getpid()}_*"):
        with contextlib.suppress(OSError):
            if path.stat().st_blocks == 0:  # not of a process of another container with this number
                path.unlink()


class HandoverQueue(multiprocessing.queues.Queue):  # type: ignore[type-arg]
    """A queue that sends a batch through the pipe if it cannot be shared: too many open files, no socket.

    A process that ends does not wait until its batches are read, because the reader may have been killed.
    """

    _joincancelled: bool

    def _start_thread(self) -> None:
        self.cancel_join_thread()
        super()._start_thread()  # type: ignore[misc]

    def _on_queue_feeder_error(self, error: Exception, item: Any) -> None:
        """Replace a batch that could not be sent. The feeder thread of a worker calls this method."""
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Parcel | Batch):
            number, parcel = item
            if isinstance(parcel, Parcel) and parcel.shortage is None:
                self.put((number, parcel.through_the_pipe(str(error))))
            else:
                self.put((number, Failure(f"a batch could not be sent to the training process: {error!r}")))
        else:
            super()._on_queue_feeder_error(error, item)  # type: ignore[misc]
