"""Divide one annotated split into train, valid and test: stratified, seeded, with near-duplicates on one side."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rfdetr_hwd.curation.archive import new_folder
from rfdetr_hwd.curation.convert import Target, rooted, write_dataset
from rfdetr_hwd.curation.write import Written
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.near_duplicates import MAX_DISTANCE, Hashes

SPLIT_NAMES = ("train", "valid", "test")


class SplitResult(NamedTuple):
    """How a dataset was divided.

    Attributes:
        rows: For each split its rows of the data, ascending.
        groups: Rows of images that nearly look the same; each group lies in one split.
        written: What was written of each split.
    """

    rows: dict[str, NDArray[np.intp]]
    groups: list[list[int]]
    written: list[Written]


class Shares(NamedTuple):
    """How a dataset is to be divided.

    Attributes:
        fractions: Shares of the parts, not negative, with the sum 1. A part of share 0 gets nothing.
        seed: Seed of the choice between equals.
        max_distance: Bits in which the hashes of near-duplicates differ at most; see `rfdetr_hwd.data.near_duplicates`.
    """

    fractions: Sequence[float] = (0.8, 0.1, 0.1)
    seed: int = 0
    max_distance: int = MAX_DISTANCE


def split_dataset(
    data: DetectionData, hashes: Hashes, shares: Shares, out: Path, home: Path, to: Target = "coco"
) -> SplitResult:
    """Divide a split and write the parts as a dataset.

    In COCO image ids, category ids, boxes, areas and crowd flags are kept; annotations are numbered from 1 over all
    parts. What detection does not use (segmentations, licences, the grouping category) is not carried over. Images are
    hard links where the disk allows it, else copies. The same data, shares and seed give the same parts.

    Args:
        data: The annotated images.
        hashes: Of these images, from `rfdetr_hwd.data.near_duplicates.hash_images`.
        shares: Of train, valid and test.
        out: Directory that does not exist yet. It appears when all parts are complete.
        home: Directory of the dataset.
        to: Format of what is written.

    Raises:
        DatasetError: A part would have no image, an image lies outside, or the directory cannot be written.
        ValueError: The fractions are no shares.
    """
    check_fractions(shares.fractions)
    parts, groups = divide(data, hashes, shares)
    wanted = [(part, name) for part, name in enumerate(SPLIT_NAMES) if shares.fractions[part] > 0]
    rows = {name: np.flatnonzero(parts == part) for part, name in wanted}
    empty = [name for name in rows if not len(rows[name])]
    if empty:
        raise DatasetError(
            f"{len(data)} images, {len(groups)} groups of near-duplicates among them, are too few for these shares: "
            f"{' and '.join(empty)} would be empty"
        )
    data = rooted(data)
    with new_folder(out) as folder:
        written = write_dataset(folder, {name: data.take(rows[name], name) for name in rows}, to, home)
    return SplitResult(rows, groups, written)


def divide(data: DetectionData, hashes: Hashes, shares: Shares) -> tuple[NDArray[np.intp], list[list[int]]]:
    """Return the part of each image, shape (N,), and the groups of near-duplicates, each of which lies in one part."""
    groups = hashes.groups(shares.max_distance)
    classes = [np.unique(data.labels[data.offsets[i] : data.offsets[i + 1]]).tolist() for i in range(len(data))]
    return stratify(classes, groups, shares.fractions, np.random.default_rng(shares.seed)), groups


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise a ValueError unless there are three shares, not negative, whose sum is 1, the first of them not 0."""
    if len(fractions) != len(SPLIT_NAMES) or not all(0 <= share <= 1 for share in fractions):
        raise ValueError(f"must be three shares (train, valid, test) between 0 and 1, not {list(fractions)}")
    if abs(sum(fractions) - 1) > 1e-6 or fractions[0] == 0:
        raise ValueError(f"must have the sum 1 and leave something to train, not {list(fractions)}")


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
        fractions: Share of each part. One with the share 0 gets nothing.
        rng: Source of chance.

    Returns:
        Shape (N,), the part of each image.
    """
    grouped = {row for group in groups for row in group}
    units = [*map(list, groups), *([row] for row in range(len(classes)) if row not in grouped)]
    counts = [Counter(label for row in unit for label in set(classes[row])) for unit in units]
    left: dict[int, set[int]] = {}  # class -> units not dealt out
    for unit, labels in enumerate(counts):
        for label in labels:
            left.setdefault(label, set()).add(unit)
    shares = np.where(np.asarray(fractions) > 0, fractions, -np.inf)
    lacking = shares * len(classes)  # (parts,)
    lacking_of = {label: shares * sum(counts[unit][label] for unit in left[label]) for label in left}
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
