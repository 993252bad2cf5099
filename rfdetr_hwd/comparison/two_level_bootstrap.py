"""The two levels of a paired bootstrap: seeds, then images.

Seed K of one arm is paired with seed K of the other, and a resample draws the same images for all runs. What they share
cancels in the difference.

Resampling S seeds with replacement gives their mean a variance that is known in closed form, (S - 1) / S of the
unbiased one. It is computed, not drawn; images are drawn. The variance over images of the mean difference holds a part
that differs from seed to seed, and the variance over seeds holds it again. It is counted once (A. B. Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 1, 2007, has the surplus of bootstrapping both levels).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.comparison.interval import Estimate
from rfdetr_hwd.evaluation.bootstrap import draw_images, image_variance
from rfdetr_hwd.evaluation.matching import Matches
from rfdetr_hwd.evaluation.weighted_metrics import resampled_metrics


@dataclass(frozen=True)
class Values:
    """One metric of the runs of an arm: S seeds in ascending order.

    Attributes:
        measured: Values on the images, shape (S,).
        resampled: Values on R resamples of the images, shape (S, R); NaN where a resample has no ground truth.
    """

    measured: NDArray[np.float64]
    resampled: NDArray[np.float64]

    def __sub__(self, other: "Values") -> "Values":
        """Return the paired differences."""
        return Values(self.measured - other.measured, self.resampled - other.resampled)


def resample_arm(runs: Mapping[int, Matches], metrics: Sequence[str], resamples: int, seed: int) -> dict[str, Values]:
    """Return the metrics of an arm's runs on the images and on resamples of them.

    Arms with the same images get the same resamples from the same seed.

    Args:
        runs: Matches of each run by its seed.
        metrics: Names, of `METRICS` or `AP/<class name>`.
        resamples: Number of resamples.
        seed: Seed of the draw. Images are drawn in the order of their ids.
    """
    num_images = len(next(iter(runs.values())).image_ids)
    weights = np.concatenate([np.ones((1, num_images)), draw_images(num_images, resamples, seed)])
    by_seed = [resampled_metrics(runs[key], weights, metrics) for key in sorted(runs)]
    stacked = {name: np.stack([values[name] for values in by_seed]) for name in metrics}
    return {name: Values(values[:, 0], values[:, 1:]) for name, values in stacked.items()}


def estimate(differences: Values, num_images: int) -> Estimate:
    """Return the mean difference and the two parts of its variance.

    Args:
        differences: Paired differences of the seeds.
        num_images: Number of images with ground truth, at least 2.
    """
    num_seeds = len(differences.measured)
    mean = float(differences.measured.mean())
    over_images = image_variance(differences.resampled.mean(axis=0), num_images)
    if num_seeds == 1:
        return Estimate(mean, 0.0, over_images, 1, num_images)
    over_seeds = float(differences.measured.var(ddof=1)) / num_seeds
    own = differences.resampled - differences.resampled.mean(axis=0)
    in_both = sum(image_variance(row, num_images) for row in own) / (num_seeds - 1) / num_seeds
    return Estimate(mean, over_seeds, max(over_images - in_both, 0.0), num_seeds, num_images)
