"""Noise before claims: an arm's spread over seeds, the difference that runs can show, the seeds that one would need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rfdetr_hwd.comparison.interval import Estimate

TAIL = 0.025
"""Probability on each side of a 95 % interval."""
_MISSED = 0.2
"""Probability of missing a difference at 80 % power."""
MOST_SEEDS = 1000
"""Largest number of seeds that is suggested."""


@dataclass(frozen=True)
class Spread:
    """A metric of one arm over its seeds.

    Attributes:
        mean: Mean over seeds.
        low: Smallest value.
        high: Largest value.
        deviation: Standard deviation over seeds; `None` with one seed.
    """

    mean: float
    low: float
    high: float
    deviation: float | None


def spread(values: Mapping[int, float]) -> Spread:
    """Return the spread of a metric.

    Args:
        values: The metric of each seed.
    """
    ordered = np.array([values[seed] for seed in sorted(values)])
    deviation = float(ordered.std(ddof=1)) if len(ordered) > 1 else None
    return Spread(float(ordered.mean()), float(ordered.min()), float(ordered.max()), deviation)


def smallest_difference(estimate: Estimate) -> float | None:
    """Return the smallest true difference that as many seeds and images show at 80 % power; `None` with one seed."""
    if estimate.num_seeds < 2:
        return None
    return estimate.half_width(TAIL) + estimate.half_width(_MISSED)


def seeds_needed(estimate: Estimate, difference: float) -> int | None:
    """Return the number of seeds that show a true difference at 80 % power on these images.

    Args:
        estimate: What was measured, with two seeds or more.
        difference: The true difference, greater than 0.

    Returns:
        Number of seeds; `None`: more than `MOST_SEEDS`, or no number, as the images' part alone is too large.
    """
    if estimate.num_seeds < 2:
        return None

    def is_shown(num_seeds: int) -> bool:
        planned = estimate.with_seeds(num_seeds)
        return planned.half_width(TAIL) + planned.half_width(_MISSED) <= difference

    return fewest_seeds(is_shown, 2)


def fewest_seeds(is_enough: Callable[[int], bool], least: int) -> int | None:
    """Return the smallest number of seeds that is enough, from `least` to `MOST_SEEDS`; `None`: there is none.

    More seeds only narrow an interval. What holds for one number holds for all larger ones.
    """
    low, high = least, MOST_SEEDS
    if low > high or not is_enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low
