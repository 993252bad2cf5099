"""Objects that are too small to be seen at the resolution of the model."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rfdetr_hwd.report.objects import Objects

SMALLEST_SIDE = 4
"""Objects with a shorter side below so many pixels of the model's input are counted."""


@dataclass(frozen=True)
class SmallObjects:
    """The small objects of a class in a split.

    Attributes:
        split: Name of the split.
        class_name: Name of the class.
        number: How many are small, at least 1.
        of: Objects of the class.
        smallest: Width and height of the smallest one in pixels of the model's input.
        image: Row of its image in the split.
    """

    split: str
    class_name: str
    number: int
    of: int
    smallest: tuple[float, float]
    image: int


def count_small_objects(splits: Mapping[str, Objects], resolution: int, keeps_aspect: bool) -> list[SmallObjects]:
    """Return the classes of each split that have objects under `SMALLEST_SIDE`, by their number.

    Args:
        splits: Objects of each split by its name.
        resolution: Input resolution of the model in pixels.
        keeps_aspect: Whether images keep their aspect ratio (letterbox), instead of being stretched.
    """
    found = []
    for split, objects in splits.items():
        extents = objects.input_extents(resolution, keeps_aspect)
        shorter = extents.min(axis=1, initial=np.inf)
        is_small = shorter < SMALLEST_SIDE
        for label in np.unique(objects.labels[is_small]).tolist():
            rows = np.flatnonzero(objects.labels == label)
            smallest = rows[shorter[rows].argmin()]
            width, height = extents[smallest].tolist()
            found.append(
                SmallObjects(
                    split=split,
                    class_name=objects.class_names[label],
                    number=int(is_small[rows].sum()),
                    of=len(rows),
                    smallest=(width, height),
                    image=int(objects.image_rows[smallest]),
                )
            )
    return sorted(found, key=lambda one: -one.number)
