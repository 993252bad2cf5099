"""A file that is complete after each part, so that a full disk or a signal costs no more than the last one."""

import os
from collections.abc import Iterable
from pathlib import Path


class GrowingFile:
    """A file that is written part by part, beside its place; `close` puts it in place.

    Args:
        path: The file.
        head: What it begins with.
        end: What it always ends with, such as the bracket of a JSON list.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, path: Path, head: bytes = b"", end: bytes = b"") -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._end = end
        self._size = 0
        self._file = self._partial.open("wb", buffering=0)
        self.append(head)

    def append(self, part: bytes) -> None:
        """Write a part before the end.

        Raises:
            OSError: It cannot be written. The file holds the parts before.
        """
        try:
            self._write(self._size, part + self._end)
        except OSError:
            self._restore()
            raise
        self._size += len(part)

    def close(self, last: Iterable[bytes] | None = None) -> None:
        """Put the file in place.

        Args:
            last: What it ends with instead.

        Raises:
            OSError: The end cannot be written. The file is in place with its usual end.
        """
        if self._file.closed:
            return
        try:
            position = self._size
            for part in last or ():
                self._write(position, part)
                position += len(part)
        except OSError:
            self._restore()
            raise
        finally:
            self._file.close()
            self._partial.replace(self.path)

    def _restore(self) -> None:
        """Write the end behind the last whole part. It takes the room of the end before, which a full disk has."""
        self._write(self._size, self._end)
        self._file.truncate(self._size + len(self._end))

    def _write(self, position: int, text: bytes) -> None:
        os.lseek(self._file.fileno(), position, os.SEEK_SET)
        while text:
            text = text[self._file.write(text) :]
