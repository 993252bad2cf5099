"""Whether two splits look like random parts of one dataset: a distance of their distributions and its p-value.

The distance is between the fractions of all counted things: for classes the total variation distance, half the sum of
the absolute differences; for numbers the largest difference of the cumulative fractions (Kolmogorov and Smirnov).
The p-value is that of a permutation test which moves whole images between the splits. Objects of one image resemble
each other, so a chi-squared test that takes them for independent would find differences that are not there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERMUTATIONS = 1999
LEVEL, LEAST_DISTANCE = 0.05, 0.05
"""Splits differ where the adjusted p-value is below the first, and the distance is not below the second."""
_MAX_BINS = 64

Counts = NDArray[np.int64]
"""How many things of each bin an image has, shape (I, B)."""


@dataclass(frozen=True)
class Distance:
    """How far two splits are apart.

    Attributes:
        value: The distance, from 0 to 1.
        p_value: Fraction of the permutations whose distance is at least as large, above 0.
    """

    value: float
    p_value: float


def split_distance(first: Counts, second: Counts, are_ordered: bool, seed: int = 0) -> Distance | None:
    """Return the distance of two splits; `None`: one of them has nothing to count.

    Args:
        first: Counts of the images of one split.
        second: Counts of the other's, over the same bins.
        are_ordered: Whether the bins are ranges of a number in ascending order, and not classes.
        seed: Random seed of the permutations.
    """
    if not first.any() or not second.any():
        return None
    # The counts of the smaller part are summed, the other's are the rest
    images = np.concatenate([first, second])
    total, size = images.sum(axis=0), min(len(first), len(second))
    generator = np.random.default_rng(seed)

    def measure(part: NDArray[np.int64]) -> float:
        rest = total - part
        if not part.any() or not rest.any():
            return 0.0
        difference = part / part.sum() - rest / rest.sum()
        return float(np.abs(np.cumsum(difference)).max() if are_ordered else np.abs(difference).sum() / 2)

    value = measure((first if len(first) <= len(second) else second).sum(axis=0))
    drawn = (generator.choice(len(images), size, replace=False, shuffle=False) for _ in range(PERMUTATIONS))
    larger = sum(measure(images[rows].sum(axis=0)) >= value - 1e-12 for rows in drawn)
    return Distance(value, (1 + larger) / (1 + PERMUTATIONS))


def count_labels(image: NDArray[np.int64], label: NDArray[np.int64], num_images: int, num_labels: int) -> Counts:
    """Return how many objects of each label the images have, shape (I, L).

    Args:
        image: Row of the image of each object, shape (M,).
        label: Label of each object, shape (M,).
        num_images: Number of images.
        num_labels: Number of labels.
    """
    counts = np.zeros((num_images, num_labels), np.int64)
    np.add.at(counts, (image, label), 1)
    return counts


def find_bins(*values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return ascending bounds that part numbers of several splits into at most 64 bins of about equally many."""
    bounds: NDArray[np.float64] = np.unique(
        np.quantile(np.concatenate(values), np.arange(1, _MAX_BINS) / _MAX_BINS, method="lower")
    )
    return bounds
