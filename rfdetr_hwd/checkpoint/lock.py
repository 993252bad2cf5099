"""One process at a time in a run directory.

The package filelock (4.2) is not used: on a file system without flock it locks by a marker file, which outlives a
killed process. Without that fallback it raises `OSError` there, as for a link or an unwritable directory, and the
warning below could not be told from a refusal.
"""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rfdetr_hwd.errors import ConfigError, writing
from rfdetr_hwd.files import open_without_links

_TIMEOUT = 6.0
"""Seconds to wait: the data loader workers of a killed run take some to notice."""

logger = logging.getLogger(__name__)


@contextmanager
def locked(folder: Path, timeout: float = _TIMEOUT) -> Iterator[None]:
    """Hold the lock of a directory, its file `.lock`.

    Args:
        folder: The directory.
        timeout: Seconds to wait for another process.

    Raises:
        ConfigError: Another process holds it, or the file cannot be written.
    """
    with writing("output.dir", folder):
        file = open_without_links(folder / ".lock", "a")
    with file:
        _acquire(file, folder, timeout)
        yield


def _acquire(file: IO[str], folder: Path, timeout: float) -> None:
    end = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise ConfigError(f"{folder} is in use: another process is training in it") from None
            time.sleep(0.2)
        except OSError as error:
            logger.warning("%s cannot be locked (%s). Make sure that no other process trains in it", folder, error)
            return
