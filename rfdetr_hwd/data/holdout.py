"""Hold out some of the training images for validation, where a dataset has no validation split."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, StrictInt, StrictStr, with_config

from rfdetr_hwd.config.validation import Finite
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.near_duplicates import hash_images
from rfdetr_hwd.data.stratify import Shares, divide


@with_config(ConfigDict(extra="forbid"))  # a record that is read is not trusted
@dataclass(frozen=True)
class HeldOut:
    """Which images of a split are held out.

    Attributes:
        fraction: The requested fraction of the images.
        seed: Random seed.
        sha256: Fingerprint of the whole split.
        image_ids: Ids of the images that are held out.
    """

    fraction: Finite
    seed: StrictInt
    sha256: StrictStr
    image_ids: tuple[Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)], ...]


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
