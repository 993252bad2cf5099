"""Out of memory: how it is recognised, and the errors raised for it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch

from rfdetr_hwd.errors import UserError

_SAID = (
    *("out of memory", "OUT_OF_MEMORY", "can't allocate memory", "std::bad_alloc"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"),
    *("CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
)
"""Messages of CUDA, cuBLAS, cuDNN and the CPU allocator, each in its own kind of error."""

RUN_REMEDIES = (
    "Check what else uses the memory, or resume with --accept model.gradient_checkpointing "
    "model.gradient_checkpointing=true, with --accept train.multi_scale train.multi_scale=false, or with "
    "--accept train.ema train.ema=false"
)
"""Ways to save memory when a run is resumed, other than a smaller `train.micro_batch`."""

_MAY_MEAN_IT = (
    *("CUBLAS_STATUS_NOT_INITIALIZED", "CUBLAS_STATUS_INTERNAL_ERROR", "CUBLAS_STATUS_EXECUTION_FAILED"),
    *("CUDNN_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_INTERNAL_ERROR", "CUDNN_STATUS_EXECUTION_FAILED"),
    *("CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED", "unable to find an engine to execute this computation"),
    "Unable to find a valid cuDNN algorithm",
)
"""Messages of cuBLAS and cuDNN when they find no memory for a handle, a kernel or a library, outside torch's allocator.
They have other causes too: an index out of range, an unsuitable driver, a defective card.
"""

_LITTLE = 1 << 30
"""Free bytes below which such a message means out of memory: cuDNN loads libraries of up to half a gibibyte."""

logger = logging.getLogger(__name__)


class OutOfMemoryError(Exception):
    """A forward or backward pass did not fit into memory on any rank. Raised on every rank; nothing has changed."""


@dataclass
class Shortage:
    """Whether the block of `noting_shortage` ran out of memory. The ranks then agree on what to do."""

    is_out: bool = False


@contextmanager
def noting_shortage() -> Iterator[Shortage]:
    """Note that the block runs out of memory, instead of raising: a traceback would hold its tensors."""
    shortage = Shortage()
    try:
        yield shortage
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        shortage.is_out = True


class HalfUpdatedError(UserError):
    """The optimizer ran out of memory in the middle of its step, on any rank; raised on every rank."""


class MemoryShortageError(UserError):
    """Something does not fit into memory, not even in parts."""


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of torch says that a device, or the machine, has no memory left.

    Some errors of cuBLAS and cuDNN do not mention memory but often mean it. They count if the GPU is nearly full.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or any(words in text for words in _SAID):
        return True
    return any(words in text for words in _MAY_MEAN_IT) and _is_nearly_full(text)


def _is_nearly_full(text: str) -> bool:
    """Return whether the GPU has little free memory, and log it."""
    if not torch.cuda.is_available():
        return False
    free = _LITTLE
    with suppress(RuntimeError):  # after an illegal access every call fails: memory was not the reason
        free, _ = torch.cuda.mem_get_info()
    if free < _LITTLE:
        logger.warning("treated as out of memory, with %d MiB free on the GPU: %s", free >> 20, text.splitlines()[0])
    return free < _LITTLE
