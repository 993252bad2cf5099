"""Write files of a run: whole or not at all, on the disk when the call returns, and never through somebody's link."""

import os
from pathlib import Path
from typing import IO


def replace_text(path: Path, text: str) -> None:
    """Write a text file beside its place and put it there in one step.

    Raises:
        OSError: It cannot be written; the old file is as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with open_without_links(partial, "x") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


def open_without_links(path: Path, mode: str) -> IO[str]:
    """Open a text file for writing; where the path is a link, which a hostile run folder may hold, it is an error."""
    return open(path, mode, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o644))


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
