"""Validation images that are training images as well: what is learned by heart is then measured."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath

from rfdetr_hwd.data.annotations import DetectionData


def count_shared(train: DetectionData, val: DetectionData) -> int:
    """Return how many validation images are training images: the same file, or one of the same name and bytes.

    Only files of the same name are compared, which costs nothing where names differ. Copies under other names are found
    by `rfdetr_hwd.curation.check`, which reads every image.
    """
    wanted = set(_base_names(val))
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(_base_names(train)):
        if name in wanted:
            rows.setdefault(name, []).append(row)
    return sum(
        any(_is_same(train, row, val, val_row) for row in rows.get(name, ()))
        for val_row, name in enumerate(_base_names(val))
    )


def _base_names(data: DetectionData) -> Iterator[str]:
    return (PurePosixPath(str(name)).name for name in data.file_names)


def _is_same(train: DetectionData, row: int, val: DetectionData, val_row: int) -> bool:
    path, val_path = train.path(row), val.path(val_row)
    if path == val_path:
        return True
    with suppress(OSError):
        if train.shards is None and val.shards is None:
            if path.samefile(val_path):
                return True
            if path.stat().st_size != val_path.stat().st_size:
                return False
        return train.read_bytes(row) == val.read_bytes(val_row)
    return False
