"""Compare the splits of a dataset: class shares, object sizes, objects per image, image sizes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.holm import adjust_by_holm
from rfdetr_hwd.analysis.split_distance import LEAST_DISTANCE, LEVEL, Counts, count_labels, find_bins, split_distance
from rfdetr_hwd.report.objects import Objects


@dataclass(frozen=True)
class SplitDifference:
    """One property of two splits.

    Attributes:
        what: The property.
        names: Names of the splits.
        values: What the splits have of it, in words.
        distance: Distance of the distributions, from 0 to 1.
        p_value: Of a permutation test over images, adjusted by Holm's method for all properties and pairs.
    """

    what: str
    names: tuple[str, str]
    values: tuple[str, str]
    distance: float
    p_value: float

    @property
    def is_real(self) -> bool:
        """Whether random parts of one dataset would hardly differ as much, and the distance matters."""
        return self.p_value < LEVEL and self.distance >= LEAST_DISTANCE


def compare_splits(splits: Mapping[str, Objects], resolution: int, keeps_aspect: bool) -> list[SplitDifference]:
    """Compare each pair of splits.

    Args:
        splits: Objects of each split by its name.
        resolution: Input resolution of the model in pixels.
        keeps_aspect: Whether images keep their aspect ratio (letterbox), instead of being stretched.
    """
    found: list[SplitDifference] = []
    for names in combinations(splits, 2):
        pair = splits[names[0]], splits[names[1]]
        for what, (first, second), are_ordered, values in _properties(pair, resolution, keeps_aspect):
            distance = split_distance(first, second, are_ordered)
            if distance is not None:
                found.append(SplitDifference(what, names, values, distance.value, distance.p_value))
    adjusted = adjust_by_holm([one.p_value for one in found])
    return [replace(one, p_value=p_value) for one, p_value in zip(found, adjusted, strict=True)]


_Pair = tuple[Objects, Objects]
_Property = tuple[str, tuple[Counts, Counts], bool, tuple[str, str]]


def _properties(pair: _Pair, resolution: int, keeps_aspect: bool) -> Iterator[_Property]:
    """Yield the name, the counts, whether bins are ordered, and the words of each property."""
    yield _class_shares(pair)

    first, second = (objects.input_sides(resolution, keeps_aspect) for objects in pair)
    sizes = [(f"median {_median(sides)} px" if len(sides) else "-") for sides in (first, second)]
    counts = _count_ranges((first, second), (pair[0].image_rows, pair[1].image_rows), pair)
    yield "object size at the model's input", counts, True, (sizes[0], sizes[1])

    first, second = (objects.per_image.astype(np.float64) for objects in pair)
    means = f"mean {first.mean():.1f}", f"mean {second.mean():.1f}"
    yield "objects per image", _count_ranges((first, second), _each(pair), pair), True, means

    first, second = (np.sqrt(objects.image_sizes.prod(axis=1)) for objects in pair)
    names = _usual_size(pair[0]), _usual_size(pair[1])
    yield "image size", _count_ranges((first, second), _each(pair), pair), True, names


def _class_shares(pair: _Pair) -> _Property:
    """Return the property of the classes. Its words are about the class whose fractions differ most."""
    names = tuple(dict.fromkeys(name for objects in pair for name in objects.class_names))
    counts = [_count_classes(objects, names) for objects in pair]
    first, second = (count.sum(axis=0) / max(1, int(count.sum())) for count in counts)
    most = int(np.abs(first - second).argmax())
    words = f"{names[most]} {first[most]:.1%}", f"{names[most]} {second[most]:.1%}"
    return "class shares", (counts[0], counts[1]), False, words


def _count_classes(objects: Objects, names: Sequence[str]) -> Counts:
    of_names = np.array([names.index(name) for name in objects.class_names], np.int64)
    return count_labels(objects.image_rows, of_names[objects.labels], len(objects.image_sizes), len(names))


def _count_ranges(
    values: tuple[NDArray[np.float64], NDArray[np.float64]],
    images: tuple[NDArray[np.int64], NDArray[np.int64]],
    pair: _Pair,
) -> tuple[Counts, Counts]:
    """Return the counts of numbers in ranges that both splits share."""
    if not sum(map(len, values)):
        return tuple(np.zeros((len(objects.image_sizes), 1), np.int64) for objects in pair)  # type: ignore[return-value]
    bounds = find_bins(*values)
    first, second = (
        count_labels(image, np.digitize(numbers, bounds), len(objects.image_sizes), len(bounds) + 1)
        for numbers, image, objects in zip(values, images, pair, strict=True)
    )
    return first, second


def _each(pair: _Pair) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.arange(len(pair[0].image_sizes)), np.arange(len(pair[1].image_sizes))


def _usual_size(objects: Objects) -> str:
    sizes, counts = np.unique(objects.image_sizes, axis=0, return_counts=True)
    height, width = sizes[counts.argmax()].tolist()
    return f"mostly {width} x {height}"


def _median(values: NDArray[np.float64]) -> int:
    return round(float(np.median(values)))
