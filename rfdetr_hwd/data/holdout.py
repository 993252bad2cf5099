"""Hold out some of the training images for validation, where a dataset has no validation split."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError, is_id
from rfdetr_hwd.data.near_duplicates import hash_images
from rfdetr_hwd.data.stratify import Shares, divide


class HeldOut(NamedTuple):
    """Which images of a split are held out.

    Attributes:
        fraction: The requested fraction of the images.
        seed: Random seed.
        sha256: Fingerprint of the whole split.
        image_ids: Ids of the images that are held out.
    """

    fraction: float
    seed: int
    sha256: str
    image_ids: tuple[int, ...]

    def as_record(self) -> dict[str, Any]:
        """Return JSON values for `from_record`."""
        return {**self._asdict(), "image_ids": list(self.image_ids)}

    @classmethod
    def from_record(cls, record: object) -> "HeldOut | None":
        """Return the recorded images, or `None` for an invalid record. The record is not trusted."""
        if not isinstance(record, dict) or record.keys() != set(cls._fields):
            return None
        ids = record["image_ids"]
        if not isinstance(ids, list) or not all(map(is_id, ids)):
            return None
        return cls(record["fraction"], record["seed"], record["sha256"], tuple(ids))


def choose_held_out(
    data: DetectionData, fraction: float, seed: int, watch: Callable[[Iterator[Any]], Iterator[Any]] = iter
) -> HeldOut:
    """Choose images to hold out: stratified by class, with near-duplicates in one part.

    Every image is decoded once. An image that cannot be decoded has no near-duplicates.

    Args:
        data: The whole split.
        fraction: Fraction of its images, above 0 and below 1.
        seed: Random seed.
        watch: Wraps the iterator over the images, and may show progress.

    Raises:
        DatasetError: No image, or all of them, would be held out.
    """
    parts, groups = divide(data, hash_images(data, watch), Shares((1 - fraction, fraction), seed))
    rows = np.flatnonzero(parts == 1)
    if not 0 < len(rows) < len(data):
        raise DatasetError(
            f"data.val_fraction={fraction:g}: {len(data)} images of {data.name}, with {len(groups)} groups of "
            f"near-duplicates, cannot be divided: {len(rows)} would be held out"
        )
    return HeldOut(fraction, seed, data.fingerprint, tuple(data.image_ids[rows].tolist()))


def part_held_out(data: DetectionData, held_out: HeldOut) -> tuple[DetectionData, DetectionData]:
    """Return the training images and the held-out images.

    Raises:
        DatasetError: The images of one of the two have no object.
    """
    is_held_out = np.isin(data.image_ids, np.array(held_out.image_ids, dtype=np.int64))
    kept = data.take(np.flatnonzero(~is_held_out), data.name)
    held = data.take(np.flatnonzero(is_held_out), f"{data.name} (held out)")
    for part in (kept, held):
        if not len(part.labels):
            what = f"data.val_fraction={held_out.fraction:g}: the {len(part)} images of {part.name} have no object"
            raise DatasetError(f"{what}. Choose another data.val_fraction or data.val_seed")
    return kept, held
