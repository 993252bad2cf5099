"""Intervals of one run's metrics, by a bootstrap of the images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rfdetr_hwd.evaluation.matching import Matches
from rfdetr_hwd.evaluation.weighted_metrics import coco_metrics, num_images_with, resampled_metrics


@dataclass(frozen=True)
class Interval:
    """A metric with its confidence interval, from 0 to 1.

    The interval is about these weights on other images. It says nothing about another seed.
    """

    value: float
    low: float
    high: float


def draw_images(num_images: int, resamples: int, seed: int) -> NDArray[np.int64]:
    """Return how often each image is drawn, with replacement, shape (resamples, num_images)."""
    return np.random.default_rng(seed).multinomial(num_images, np.full(num_images, 1 / num_images), size=resamples)


def image_variance(resampled: NDArray[np.float64], num_images: int) -> float:
    """Return the variance of a metric over sets of images.

    Args:
        resampled: Values of the resamples, shape (R,); NaN where a resample has no ground truth.
        num_images: Number of images with ground truth, n. A bootstrap is too narrow by (n - 1) / n, which is undone.
    """
    known = resampled[~np.isnan(resampled)]
    return float(known.var(ddof=1)) * num_images / (num_images - 1) if len(known) > 1 else 0.0


def bootstrap_intervals(
    matches: Matches,
    metrics: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval | None]:
    """Return the interval of each metric: its value and Student's t times the deviation over resamples, within [0, 1].

    On few images it covers a little more than the quantiles of the resamples do (docs/benchmarks.md).

    Args:
        matches: Matches of one run.
        metrics: Names, of `METRICS` or `AP/<class name>`; `None`: all of them.
        resamples: Number of resamples.
        seed: Seed of the draw. Images are drawn in the order of their ids.
        level: Confidence level.

    Returns:
        Intervals by name. A metric that fewer than two images have ground truth of has no interval, `None`.
    """
    weights = draw_images(len(matches.image_ids), resamples, seed)
    resampled = resampled_metrics(matches, weights, metrics)
    values = coco_metrics(matches, metrics=metrics)
    intervals: dict[str, Interval | None] = {}
    for name, value in values.items():
        num_images = num_images_with(matches, name)
        if value is None or num_images < 2:
            intervals[name] = None
            continue
        critical = float(stats.t.ppf((1 + level) / 2, num_images - 1))
        half = critical * image_variance(resampled[name], num_images) ** 0.5
        intervals[name] = Interval(value, max(0.0, value - half), min(1.0, value + half))
    return intervals
