"""The interval of a mean difference whose variance has two parts: seeds and images.

The usual interval of a two-level bootstrap, the quantiles of its resamples, is too narrow. Where three seeds dominate,
its ends are the smallest and the largest of the three, and all three lie on one side of the truth in a quarter of all
experiments: "95 %" holds 75 %. This interval takes the variances from the two levels, and Student's t of each:

    half width = (g t(S - 1) + (1 - g) t(n - 1)) * sqrt(A + B),    g = A^2 / (A^2 + (S - 1) / 4 * B^2)

with A the seeds' part of the variance, B the images', S seeds and n images: the seeds' wide t counts where their part
dominates. Integrated over the draw of A, for every true share of the seeds between 0 and 1, it holds 94 to 97 % of
normal differences with 2 seeds and 95 to 97 % with 3 to 10. Two published weights were tried beside it. Cochran's
("Approximate significance levels of the Behrens-Fisher test", Biometrics 20, 1964), g = A / (A + B), is too wide with
two seeds: up to 98 %. Welch-Satterthwaite degrees of freedom believe a variance that is small by chance: 88 % with two
seeds and 93 % with three, where seeds dominate. `scripts/measure_coverage.py` measures the interval on simulated
detectors; docs/benchmarks.md has the table.
"""

import math
from dataclasses import dataclass, replace

from scipy import optimize, special

_SMALLEST_TAIL = 1e-12
"""p-values below it are given as it."""


@dataclass(frozen=True)
class Estimate:
    """A mean difference and the two parts of its variance.

    Attributes:
        difference: Mean over the seeds.
        seed_variance: Variance of the mean over other seeds, on the same images.
        image_variance: Variance of the mean over other images, as far as seeds do not hold it already.
        num_seeds: Number of seeds. With one, `seed_variance` is unknown and counted as 0.
        num_images: Number of images with ground truth, at least 2.
    """

    difference: float
    seed_variance: float
    image_variance: float
    num_seeds: int
    num_images: int

    @property
    def deviation(self) -> float:
        """Return the standard error of the difference."""
        return math.sqrt(self.seed_variance + self.image_variance)

    def half_width(self, tail: float) -> float:
        """Return the half width of the interval that leaves out `tail` on each side: 0.025 for 95 %."""
        return self._critical(tail) * self.deviation

    def tail_beyond(self, distance: float) -> float:
        """Return the tail whose half width is `distance`: the one-sided p-value of a difference that far from it."""
        if self.deviation == 0:
            return 0.5 if distance == 0 else float(distance < 0)
        if distance < 0:
            return 1 - self.tail_beyond(-distance)
        in_deviations = distance / self.deviation
        if self._critical(_SMALLEST_TAIL) <= in_deviations:
            return _SMALLEST_TAIL

        def excess(log_tail: float) -> float:
            return self._critical(math.exp(log_tail)) - in_deviations

        return math.exp(optimize.brentq(excess, math.log(_SMALLEST_TAIL), math.log(0.5), xtol=1e-12))

    def with_seeds(self, num_seeds: int) -> "Estimate":
        """Return the estimate of as many seeds, if all stays as it was measured."""
        return replace(self, num_seeds=num_seeds, seed_variance=self.seed_variance * self.num_seeds / num_seeds)

    def _critical(self, tail: float) -> float:
        """Return the critical value in standard errors."""
        by_images = -float(special.stdtrit(self.num_images - 1, tail))
        variance = self.seed_variance + self.image_variance
        if self.num_seeds < 2 or variance == 0:
            return by_images
        share_of_seeds = self.seed_variance / variance
        of_seeds, of_images = share_of_seeds**2, (self.num_seeds - 1) / 4 * (1 - share_of_seeds) ** 2
        by_seeds = -float(special.stdtrit(self.num_seeds - 1, tail))
        return (of_seeds * by_seeds + of_images * by_images) / (of_seeds + of_images)
