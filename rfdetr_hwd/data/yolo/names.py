"""Names of images in a YOLO dataset that is written: what every reader finds, with a label file of its own.

Ultralytics reads nested directories; rfdetr and supervision read one flat directory, and skip what lies deeper. All of
them skip suffixes that they do not list, `.jfif` among them, and take the label file by the stem, which two images may
share (`a.jpg`, `a.png`); on Windows and macOS also where stems differ in case alone.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

_READ_BY_ALL = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".mpo")
"""Suffixes that Ultralytics, rfdetr and supervision read."""
_SAME_FORMAT = {".jfif": ".jpg", ".jpe": ".jpg", ".apng": ".png"}
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif"}
_MAX_STEM_BYTES = 200


def flat_names(names: Sequence[str], format_of: Callable[[int], str]) -> list[str]:
    """Return for each image a name in one directory; most names stay as they are.

    Directories become part of the name. A suffix that some reader skips becomes that of the file's format. Where two
    images would share a label file, the later one gets a number.

    Args:
        names: Paths of the images, with `/`.
        format_of: Returns the format of a file by its place in `names`; asked where the suffix says nothing.
    """
    wanted = [_flat(name, row, format_of) for row, name in enumerate(names)]
    order = sorted(range(len(names)), key=lambda row: wanted[row] != names[row])  # those that can stay come first
    taken: set[str] = set()
    chosen = list(wanted)
    for row in order:
        stem, suffix = _cut(wanted[row])
        number = 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{_cut(wanted[row])[0]}_{number}"
        taken.add(stem.casefold())
        chosen[row] = f"{stem}{suffix}"
    return chosen


def _flat(name: str, row: int, format_of: Callable[[int], str]) -> str:
    parts = [part for part in PurePosixPath(name).parts if part != "."]
    stem, suffix = _cut("_".join(parts))
    if suffix.lower() in _SAME_FORMAT:
        suffix = _SAME_FORMAT[suffix.lower()]
    elif suffix.lower() not in _READ_BY_ALL:  # it is part of the name: photo.v1
        stem, suffix = f"{stem}{suffix}", _SUFFIXES[format_of(row)]
    while len(stem.encode()) > _MAX_STEM_BYTES:
        stem = stem[1:]
    return f"{stem.lstrip('.') or '_'}{suffix}"


def _cut(name: str) -> tuple[str, str]:
    """Return stem and suffix of a name, as all readers cut it."""
    path = PurePosixPath(name)
    return name[: len(name) - len(path.suffix)], path.suffix
