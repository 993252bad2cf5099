"""Divide images into parts: each class as the fractions say, seeded, with near-duplicates in one part."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.near_duplicates import MAX_DISTANCE, Hashes


class Shares(NamedTuple):
    """How a dataset is to be divided.

    Attributes:
        fractions: Fractions of the parts, not negative, with the sum 1. A part with fraction 0 stays empty.
        seed: Seed of the choice between equals.
        max_distance: Bits in which the hashes of near-duplicates differ at most; see `rfdetr_hwd.data.near_duplicates`.
    """

    fractions: Sequence[float] = (0.8, 0.1, 0.1)
    seed: int = 0
    max_distance: int = MAX_DISTANCE


def divide(data: DetectionData, hashes: Hashes, shares: Shares) -> tuple[NDArray[np.intp], list[list[int]]]:
    """Return the part of each image, shape (N,), and the groups of near-duplicates, each of which lies in one part."""
    groups = hashes.groups(shares.max_distance)
    classes = [np.unique(data.labels[data.offsets[i] : data.offsets[i + 1]]).tolist() for i in range(len(data))]
    return stratify(classes, groups, shares.fractions, np.random.default_rng(shares.seed)), groups


def stratify(
    classes: Sequence[Sequence[int]], groups: Sequence[Sequence[int]], fractions: Sequence[float], rng: Generator
) -> NDArray[np.intp]:
    """Choose a part for every image so that each class is divided as the fractions say.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD
    2011, algorithm 1): the rarest class left is dealt out first, each image to the part that lacks most of that class,
    then to the one that lacks most images, then by chance. Here a group is dealt out as one, large ones first, and it
    takes all its images off what the part lacks.

    Args:
        classes: For each of N images the labels in it.
        groups: Disjoint rows that stay together; other images are groups of their own.
        fractions: Fraction of each part. A part with fraction 0 stays empty.
        rng: Source of chance.

    Returns:
        Shape (N,), the part of each image.
    """
    # Count the classes of each unit: a group, or an image of no group
    grouped = {row for group in groups for row in group}
    units = [*map(list, groups), *([row] for row in range(len(classes)) if row not in grouped)]
    counts = [Counter(label for row in unit for label in set(classes[row])) for unit in units]
    left: dict[int, set[int]] = {}  # class -> units not dealt out
    for unit, labels in enumerate(counts):
        for label in labels:
            left.setdefault(label, set()).add(unit)

    # Compute what each part lacks, of images and of each class
    wanted = np.where(np.asarray(fractions) > 0, fractions, -np.inf)
    lacking = wanted * len(classes)  # (parts,)
    lacking_of = {label: wanted * sum(counts[unit][label] for unit in left[label]) for label in left}

    # Order the units by size, then by chance
    order = rng.permutation(len(units))
    order = order[np.argsort([-len(units[unit]) for unit in order], kind="stable")]
    rank = np.argsort(order)
    parts = np.zeros(len(classes), dtype=np.intp)

    def deal(unit: int, wishes: Sequence[NDArray[np.float64]]) -> None:
        part = _most_wanting(wishes, rng)
        parts[units[unit]] = part
        lacking[part] -= len(units[unit])
        for label, count in counts[unit].items():
            lacking_of[label][part] -= count
            left[label].discard(unit)

    # Deal out the rarest class first, then the images without objects
    while left:
        rarest = min(left, key=lambda label: (len(left[label]), label))
        for unit in sorted(left[rarest], key=rank.__getitem__):
            deal(unit, (lacking_of[rarest], lacking))
        left = {label: unit for label, unit in left.items() if unit}
    for unit in order:
        if not counts[unit]:
            deal(unit, (lacking,))
    return parts


def _most_wanting(wishes: Sequence[NDArray[np.float64]], rng: Generator) -> int:
    """Return the part with the largest first wish; among equals the largest next one, then any."""
    best = np.arange(len(wishes[0]))
    for wish in wishes:
        best = best[wish[best] >= wish[best].max() - 1e-9]
    return int(best[0] if len(best) == 1 else rng.choice(best))
