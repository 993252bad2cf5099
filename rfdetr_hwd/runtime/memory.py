"""Running out of memory: how it is told from other errors, what is raised for it, and how an evaluation gets by."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import torch

from rfdetr_hwd.errors import UserError

_SAID = (
    *("out of memory", "OUT_OF_MEMORY", "can't allocate memory", "std::bad_alloc"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
    *("CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
)
"""What CUDA, cuBLAS, cuDNN and the CPU's allocator say, each in an error of its own kind."""

RUN_REMEDIES = (
    "Check what else uses the memory, or resume with --accept model.gradient_checkpointing "
    "model.gradient_checkpointing=true, with --accept train.multi_scale train.multi_scale=false, or with "
    "--accept train.ema train.ema=false"
)
"""What saves memory when a run is resumed, besides a smaller `train.micro_batch`."""

_MAY_MEAN_IT = (
    *("CUBLAS_STATUS_NOT_INITIALIZED", "CUBLAS_STATUS_INTERNAL_ERROR", "CUBLAS_STATUS_EXECUTION_FAILED"),
    *("CUDNN_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_INTERNAL_ERROR", "CUDNN_STATUS_EXECUTION_FAILED"),
    *("CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED", "unable to find an engine to execute this computation"),
    "Unable to find a valid cuDNN algorithm",
)
"""What cuBLAS and cuDNN say where they find no memory for a handle, a kernel or a library of theirs, outside torch's
allocator; and on other occasions: an index out of range, a driver that does not fit, a defective card.
"""

_LITTLE = 1 << 30
"""Free bytes below which it is memory that they lack: cuDNN loads libraries of up to half a gibibyte."""

logger = logging.getLogger(__name__)


class OutOfMemoryError(Exception):
    """A forward or backward pass did not fit into memory, on any rank; raised on every rank, nothing was changed."""


class HalfUpdatedError(UserError):
    """The optimizer ran out of memory in the middle of its step, on any rank; raised on every rank."""


class MemoryShortageError(UserError):
    """What does not fit into memory, in parts neither."""


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of torch says that a device, or the machine, has no memory left.

    cuBLAS and cuDNN also have errors that say no such thing and often mean it: they count where the GPU is nearly full.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or any(words in text for words in _SAID):
        return True
    return any(words in text for words in _MAY_MEAN_IT) and _is_nearly_full(text)


def _is_nearly_full(text: str) -> bool:
    """Return whether the GPU has little memory free, and say so."""
    if not torch.cuda.is_available():
        return False
    try:
        free, _ = torch.cuda.mem_get_info()
    except RuntimeError:  # after an illegal access every call fails: memory was not the reason
        return False
    if free < _LITTLE:
        logger.warning("taken for a lack of memory, with %d MiB of the GPU free: %s", free >> 20, text.splitlines()[0])
    return free < _LITTLE


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
