"""Hold out some of the training images for validation: a fraction, or one of several equal parts."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field, StrictInt, StrictStr, with_config

from rfdetr_hwd.config.parts import number_of_parts
from rfdetr_hwd.config.schema import DataSection
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
        part: Number of the part, from 1, if the split is divided into equal parts.
    """

    fraction: Finite
    seed: StrictInt
    sha256: StrictStr
    image_ids: tuple[Annotated[StrictInt, Field(ge=-(2**63), lt=2**63)], ...]
    part: Annotated[StrictInt, Field(ge=1)] | None = None

    def is_chosen_by(self, settings: DataSection) -> bool:
        """Return whether the settings choose these images, of the same split."""
        return (self.fraction, self.seed, self.part) == (settings.val_fraction, settings.val_seed, settings.val_part)

    def describe(self) -> str:
        """Return the settings that chose the images."""
        keys = {"val_fraction": f"{self.fraction:g}", "val_seed": self.seed, "val_part": self.part}
        return ", ".join(f"data.{key}={value}" for key, value in keys.items() if value is not None)


Watch = Callable[[Iterator[Any]], Iterator[Any]]
"""Wraps the iterator over the images, and may show progress."""


def choose_held_out(
    data: DetectionData, fraction: float, seed: int, watch: Watch = iter, part: int | None = None
) -> HeldOut:
    """Choose images to hold out: stratified by class, with near-duplicates in one part.

    Every image is decoded once. An image that cannot be decoded has no near-duplicates.

    Args:
        data: The whole split.
        fraction: Fraction of its images, above 0 and below 1.
        seed: Random seed.
        watch: Wraps the iterator over the images.
        part: Number of the part, from 1, of as many equal parts as the fraction says; `None`: hold out the fraction.

    Raises:
        DatasetError: No image, or all of them, would be held out.
    """
    if part is not None:
        return divide_equally(data, fraction, seed, watch)[part - 1]
    parts, groups = divide(data, hash_images(data, watch), Shares((1 - fraction, fraction), seed))
    rows = np.flatnonzero(parts == 1)
    if not 0 < len(rows) < len(data):
        raise DatasetError(
            f"data.val_fraction={fraction:g}: {len(data)} images of {data.name}, with {len(groups)} groups of "
            f"near-duplicates, cannot be divided: {len(rows)} would be held out"
        )
    return HeldOut(fraction, seed, data.fingerprint, tuple(data.image_ids[rows].tolist()))


def divide_equally(data: DetectionData, fraction: float, seed: int, watch: Watch = iter) -> list[HeldOut]:
    """Divide a split into equal parts, each of which is held out once; see `choose_held_out`.

    Args:
        data: The whole split.
        fraction: Fraction of its images in a part.
        seed: Random seed.
        watch: Wraps the iterator over the images.

    Returns:
        The parts in order. They are disjoint and hold all images.

    Raises:
        DatasetError: A part would be empty.
    """
    number = number_of_parts(fraction)
    parts, groups = divide(data, hash_images(data, watch), Shares((1 / number,) * number, seed))
    found = [tuple(data.image_ids[parts == part].tolist()) for part in range(number)]
    if empty := found.count(()):
        raise DatasetError(
            f"{len(data)} images of {data.name}, with {len(groups)} groups of near-duplicates, cannot be divided into "
            f"{number} parts: {empty} would be empty. Choose fewer parts"
        )
    return [HeldOut(fraction, seed, data.fingerprint, ids, part) for part, ids in enumerate(found, start=1)]


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
