"""Hand batches over from data loader workers: images through shared memory, or through the pipe where it is short.

Left to torch, every tensor goes through shared memory, with an open file each, in a thread whose errors nobody hears
of: a batch that does not fit would never arrive. Here images alone go that way, and the worker knows when they do not.
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
        batch: Everything else; its arrays go through the pipe.
        arrays: Targets of each image, and sizes.
        shortage: Why the images do not go through shared memory; `None`: they do, or there are none.
    """

    images: Tensor | NDArray[np.float32]
    batch: Batch
    arrays: tuple[list[dict[str, NDArray[Any]]], NDArray[np.float32]]
    shortage: str | None = None

    def through_the_pipe(self, reason: str | None) -> "Parcel":
        """Return the same with its images in an array."""
        return replace(self, images=np.asarray(self.images), shortage=reason)

    def unpack(self) -> Batch:
        """Return the batch; say, the first time, that shared memory is short."""
        targets, sizes = self.arrays
        if self.shortage is not None:
            say_shortage(self.images.nbytes, self.shortage)
        return replace(
            self.batch,
            images=torch.as_tensor(self.images),
            targets=[{key: torch.from_numpy(value) for key, value in target.items()} for target in targets],
            sizes=torch.from_numpy(sizes),
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; the loader calls it."""
        return self.unpack().pin_memory()


def collate_and_pack(items: list[Batch | Failure]) -> Parcel | Failure:
    """Join batches in a worker, and pack the whole for its way; see `rfdetr_hwd.data.batch.collate`."""
    batch = collate(items)
    return batch if isinstance(batch, Failure) else pack(batch)


def pack(batch: Batch) -> Parcel:
    """Put the images of a batch into shared memory, if they fit."""
    targets = [{key: value.numpy() for key, value in target.items()} for target in batch.targets]
    nothing = torch.empty(0)
    rest = replace(batch, images=nothing, targets=[], sizes=nothing)
    parcel = Parcel(batch.images, rest, (targets, batch.sizes.numpy()))
    if not batch.images.numel():
        return parcel.through_the_pipe(None)
    try:
        batch.images.share_memory_()  # it is set aside as a whole, so that writing to it is no bus error
    except RuntimeError as error:
        _remove_empty_segments()
        return parcel.through_the_pipe(str(error).splitlines()[0])
    return parcel


def _remove_empty_segments() -> None:
    """Remove what torch leaves behind of memory that it could not set aside: a name, which takes one of few inodes."""
    for path in Path(FOLDER).glob(f"torch_{os.getpid()}_*"):
        with contextlib.suppress(OSError):
            if path.stat().st_blocks == 0:  # not of a process of another container with this number
                path.unlink()


class HandoverQueue(multiprocessing.queues.Queue):  # type: ignore[type-arg]
    """A queue that hands a batch over through the pipe if it cannot be shared: too many open files, no socket.

    A process that ends does not wait until what it put is read: whoever would read it may have been killed.
    """

    _joincancelled: bool

    def _start_thread(self) -> None:
        self.cancel_join_thread()
        super()._start_thread()  # type: ignore[misc]

    def _on_queue_feeder_error(self, error: Exception, item: Any) -> None:
        """Put something else in the place of what could not be sent; the thread of a worker that sends calls it."""
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], Parcel | Batch):
            number, parcel = item
            if isinstance(parcel, Parcel) and parcel.shortage is None:
                self.put((number, parcel.through_the_pipe(str(error))))
            else:
                self.put((number, Failure(f"a batch cannot be handed over: {error!r}")))
        else:
            super()._on_queue_feeder_error(error, item)  # type: ignore[misc]
