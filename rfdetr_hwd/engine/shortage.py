"""Running out of memory: how it is told from other errors, what is raised for it, and how an evaluation gets by."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch

from rfdetr_hwd.errors import UserError

_SAID = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "can't allocate memory")
"""What CUDA, cuBLAS, cuDNN and the CPU's allocator say, each in an error of its own kind."""

RUN_REMEDIES = (
    "Check what else uses the memory, or resume with --accept model.gradient_checkpointing "
    "model.gradient_checkpointing=true, with --accept train.multi_scale train.multi_scale=false, or with "
    "--accept train.ema train.ema=false"
)
"""What saves memory when a run is resumed, besides a smaller `train.micro_batch`."""

logger = logging.getLogger(__name__)


class OutOfMemoryError(Exception):
    """A forward or backward pass did not fit into memory, on any rank; raised on every rank, nothing was changed."""


class HalfUpdatedError(UserError):
    """The optimizer ran out of memory in the middle of its step, on any rank; raised on every rank."""


class MemoryShortageError(UserError):
    """What does not fit into memory, in parts neither."""


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of torch says that a device, or the machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _SAID)


class Divisible(Protocol):
    """A batch that can be cut."""

    @property
    def image_ids(self) -> tuple[int, ...]: ...
    def cut(self, size: int) -> list[Self]: ...


Batch = TypeVar("Batch", bound=Divisible)
Results = TypeVar("Results")


@dataclass
class PassSize:
    """How many images fit into memory at once, as far as is known.

    Attributes:
        images: The most that are tried.
    """

    images: int


def in_parts(
    batch: Batch, size: PassSize, run: Callable[[Batch], Results]
) -> Iterator[tuple[tuple[int, ...], Results]]:
    """Yield image ids with results, in order; a part of the batch that does not fit into memory is halved.

    Args:
        batch: The batch.
        size: Images of one part; lowered where they do not fit.
        run: Makes the results of a part.

    Raises:
        MemoryShortageError: One image alone does not fit.
    """
    waiting = [batch]
    while waiting:
        part = waiting.pop(0)
        number = len(part.image_ids)
        if number > size.images:
            waiting = part.cut(size.images) + waiting
            continue
        try:
            results = run(part)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            yield part.image_ids, results
            continue
        # Here no traceback holds the tensors of the pass any more.
        torch.cuda.empty_cache()
        if number == 1:
            raise MemoryShortageError(
                "the evaluation of one image does not fit into memory. See what else is in it; a run that goes on with "
                "--accept train.ema train.ema=false leaves more of it"
            )
        size.images = -(-number // 2)
        waiting = [part, *waiting]
        logger.warning("evaluating %d images at once does not fit into memory: %d from now on", number, size.images)
