"""How a data loader worker hands a batch over: images in shared memory, or through a pipe where there is no room.

A container has 64 MiB of /dev/shm unless it is told otherwise. torch shares tensors while it sends them, in a thread
whose errors nobody sees: the batch is lost and the trainer waits for it. Here the worker shares the images itself, sees
the failure, and sends their bytes through the pipe, where everything else goes anyway: one shared file a batch.
"""

import logging
import os
from dataclasses import dataclass, fields
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from rfdetr_hwd.data.dataset import Batch, Failure, collate

SHARED_MEMORY = "/dev/shm"
PREFETCH = 2
"""Batches that each worker makes ahead."""

_ADVICE = "Start the container with --shm-size=8g, or set fewer data.workers or a smaller train.micro_batch"
_warned: set[str] = set()

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parcel:
    """A batch on its way.

    Attributes:
        images: Shape (N, 3, R, R): a tensor in shared memory, or an array that goes through the pipe.
        targets: The targets' arrays.
        sizes: Shape (N, 2).
        rest: The other fields of the batch, by name.
    """

    images: Tensor | NDArray[Any]
    targets: list[dict[str, NDArray[Any]]]
    sizes: NDArray[Any]
    rest: dict[str, Any]

    def open(self) -> Batch:
        """Return the batch; say once that it came through a pipe."""
        images = self.images
        if not isinstance(images, Tensor):
            _warn_once(f"{describe_shared_memory()}: batches go through pipes, which is slower. {_ADVICE}")
            images = torch.from_numpy(images)
        targets = [{key: torch.from_numpy(value) for key, value in target.items()} for target in self.targets]
        return Batch(images=images, targets=targets, sizes=torch.from_numpy(self.sizes), **self.rest)

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; the loader calls it."""
        return self.open().pin_memory()


def collate_parcel(items: list[Batch | Failure]) -> Parcel | Failure:
    """Join batches in a data loader worker; see `rfdetr_hwd.data.dataset.collate`."""
    batch = collate(items)
    if isinstance(batch, Failure):
        return batch
    names = {field.name for field in fields(batch)} - {"images", "targets", "sizes"}
    return Parcel(
        images=_share(batch.images),
        targets=[{key: value.numpy() for key, value in target.items()} for target in batch.targets],
        sizes=batch.sizes.numpy(),
        rest={name: getattr(batch, name) for name in names},
    )


def _share(images: Tensor) -> Tensor | NDArray[Any]:
    """Return the images in shared memory, or as an array where there is no room for them."""
    try:
        images.share_memory_()
    except (RuntimeError, OSError):  # no space left on the device, or too many open files
        return images.numpy()
    return images


def free_shared_memory() -> int | None:
    """Return the free bytes of shared memory; `None` where the system does not tell."""
    try:
        state = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return state.f_bavail * state.f_frsize


def describe_shared_memory() -> str:
    """Return how much shared memory is free, in words."""
    free = free_shared_memory()
    return f"{SHARED_MEMORY} has {free / 2**20:.1f} MiB free" if free is not None else f"there is no {SHARED_MEMORY}"


def check_shared_memory(batch_bytes: int, workers: int) -> None:
    """Say once, before the first batch, where the batches that are made ahead do not fit into shared memory.

    Args:
        batch_bytes: Of the images of the largest batch.
        workers: Data loader workers.
    """
    free, wanted = free_shared_memory(), batch_bytes * workers * PREFETCH
    if free is not None and wanted > free:
        _warn_once(
            f"{describe_shared_memory()}, and {workers} data loader workers make {workers * PREFETCH} batches of "
            f"{batch_bytes / 2**20:.1f} MiB ahead: those that do not fit go through pipes, which is slower. {_ADVICE}"
        )


def explain_no_workers(error: Exception) -> str:
    """Return what to say where not even the queues of the workers fit into shared memory."""
    return (
        f"data loader workers cannot be started: {error}. {describe_shared_memory()}. Start the container with "
        "--shm-size=8g, or set data.workers=0"
    )


def _warn_once(message: str) -> None:
    """Log a warning unless one was logged before: every batch has the same reason."""
    if not _warned:
        logger.warning(message)
    _warned.add(message)
