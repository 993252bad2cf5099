"""Running out of memory: how it is told from other errors, and what is raised for it."""

import logging

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
        logger.warning("treated as out of memory, with %d MiB free on the GPU: %s", free >> 20, text.splitlines()[0])
    return free < _LITTLE
