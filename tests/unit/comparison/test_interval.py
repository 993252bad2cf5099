"""The interval of two variances: its limits are Student's, its p-values invert it, and it covers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rfdetr_hwd.comparison.interval import Estimate

variances = st.floats(1e-9, 1e-3)


def test_one_part_alone_gives_students_t() -> None:
    seeds = Estimate(0.01, 4e-6, 0.0, num_seeds=3, num_images=50)
    assert seeds.half_width(0.025) == pytest.approx(4.302653 * 0.002, rel=1e-6)  # t of 2 degrees of freedom
    images = Estimate(0.01, 0.0, 4e-6, num_seeds=3, num_images=50)
    assert images.half_width(0.025) == pytest.approx(2.009575 * 0.002, rel=1e-6)  # of 49


def test_two_parts_weigh_their_critical_values() -> None:
    estimate = Estimate(0.01, 3e-6, 1e-6, num_seeds=3, num_images=50)
    weight = 0.75**2 / (0.75**2 + 2 / 4 * 0.25**2)  # 18 / 19
    assert weight == pytest.approx(18 / 19)
    assert estimate.half_width(0.025) == pytest.approx((18 * 4.302653 + 2.009575) / 19 * 0.002, rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(variances, variances, st.integers(1, 12), st.integers(2, 5000), st.floats(1e-6, 0.4))
def test_the_tail_beyond_a_half_width_is_its_tail(
    seed: float, image: float, num_seeds: int, num_images: int, tail: float
) -> None:
    estimate = Estimate(0.0, seed, image, num_seeds, num_images)
    half = estimate.half_width(tail)
    assert estimate.tail_beyond(half) == pytest.approx(tail, rel=1e-6)
    assert estimate.tail_beyond(-half) == pytest.approx(1 - tail, rel=1e-6)
    assert estimate.tail_beyond(1e9) <= 1e-6


def test_no_variance_is_no_division_by_zero() -> None:
    nothing = Estimate(0.0, 0.0, 0.0, num_seeds=3, num_images=50)
    assert nothing.half_width(0.025) == 0
    assert [nothing.tail_beyond(distance) for distance in (-0.1, 0, 0.1)] == [1, 0.5, 0]


@settings(max_examples=30, deadline=None)
@given(variances, variances, st.integers(2, 12))
def test_more_seeds_narrow_the_interval(seed: float, image: float, num_seeds: int) -> None:
    estimate = Estimate(0.0, seed, image, num_seeds, 100)
    widths = [estimate.with_seeds(number).half_width(0.025) for number in range(2, 50)]
    assert widths == sorted(widths, reverse=True)
    assert estimate.with_seeds(num_seeds).half_width(0.1) == pytest.approx(estimate.half_width(0.1))


@pytest.mark.parametrize("num_seeds", [2, 3, 4, 5, 10])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.95, 0.999])
def test_every_share_of_the_seeds_is_covered(num_seeds: int, share: float) -> None:
    """The docstring's range, by integration over the seeds' variance as it is measured: chi-squared."""
    quantiles = (np.arange(2000) + 0.5) / 2000
    drawn = share * stats.chi2.ppf(quantiles, num_seeds - 1) / (num_seeds - 1)
    halves = [Estimate(0.0, part, 1 - share, num_seeds, 100).half_width(0.025) for part in drawn]
    covered = np.mean(1 - 2 * stats.norm.sf(halves))
    assert (0.939 if num_seeds == 2 else 0.949) <= covered <= 0.971


@pytest.mark.parametrize("num_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(("seed", "image"), [(1.0, 0.1), (1.0, 0.5), (0.5, 1.0), (0.1, 1.0)])
def test_normal_differences_are_covered(num_seeds: int, seed: float, image: float) -> None:
    """The docstring's range, on 1,500 normal experiments: within 3.3 deviations of a binomial fraction."""
    rng = np.random.default_rng([num_seeds, int(10 * seed), int(10 * image)])
    experiments, num_images = 1500, 100
    differences = rng.normal(0, seed, (experiments, num_seeds)) + rng.normal(0, image, (experiments, 1))
    image_variances = image**2 * stats.chi2.rvs(num_images - 1, size=experiments, random_state=rng) / (num_images - 1)
    covered = 0
    for values, variance in zip(differences, image_variances, strict=True):
        estimate = Estimate(values.mean(), values.var(ddof=1) / num_seeds, variance, num_seeds, num_images)
        covered += abs(values.mean()) <= estimate.half_width(0.025)
    low, high = (0.94, 0.97) if num_seeds == 2 else (0.95, 0.966)
    slack = 3.3 * np.sqrt(0.05 * 0.95 / experiments)
    assert low - slack <= covered / experiments <= high + slack
