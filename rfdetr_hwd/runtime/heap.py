"""Freed memory of the C library, which the next step uses again."""

import ctypes
import os

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # parameters of mallopt, from malloc.h
_LARGEST = 32 << 20
"""Largest allocation, in bytes, that glibc can be told to take from its heap."""


def keep_freed_memory() -> None:
    """Keep freed memory in the process, where the C library is glibc and the environment leaves it to itself.

    The tensors of a step on a CPU are freed, and the next step allocates as many. In between glibc would return large
    ones to the system, which has to clear and map every page again. Some of more than 32 MB it still does.
    """
    allocator = ctypes.CDLL(None)
    is_chosen = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if hasattr(allocator, "gnu_get_libc_version") and not is_chosen:
        allocator.mallopt(_MMAP_THRESHOLD, _LARGEST)
        allocator.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        allocator.mallopt(_TOP_PAD, 2 * _LARGEST)
