"""Running out of memory: how it is told from other errors, and what is raised for it."""

import torch

from rfdetr_hwd.errors import UserError

_SAID = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "can't allocate memory")
"""What CUDA, cuBLAS, cuDNN and the CPU's allocator say, each in an error of its own kind."""


class OutOfMemoryError(Exception):
    """A forward or backward pass did not fit into memory, on any rank; raised on every rank, nothing was changed."""


class MemoryShortageError(UserError):
    """What does not fit into memory, in parts neither."""


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of torch says that a device, or the machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _SAID)
