"""The two levels: what seeds and images add to the variance, and how often a known difference is covered."""

import numpy as np
import pytest

from rfdetr_hwd.comparison.two_level_bootstrap import Values, estimate, resample_arm
from rfdetr_hwd.evaluation.matching import match
from rfdetr_hwd.evaluation.weighted_metrics import coco_metrics
from tests.unit.comparison.detectors import detect, make_truth


def test_measured_values_are_the_metrics_and_images_are_shared() -> None:
    truth = make_truth(0, 12)
    runs = {seed: match(truth, detect(truth, seed)) for seed in (4, 2)}
    values = resample_arm(runs, ["AP", "AR_10"], 50, seed=0)
    assert values["AP"].measured.tolist() == pytest.approx([coco_metrics(runs[s])["AP"] for s in (2, 4)])
    assert values["AR_10"].resampled.shape == (2, 50)
    same = resample_arm({9: runs[4]}, ["AP"], 50, seed=0)["AP"]  # the images drawn depend on neither seed nor arm
    assert np.array_equal(same.resampled[0], values["AP"].resampled[1])
    other = resample_arm({9: runs[4]}, ["AP"], 50, seed=1)["AP"]
    assert not np.array_equal(same.resampled, other.resampled)


def test_variances_of_a_mean_of_images() -> None:
    """A metric that is a plain mean over images: the parts of the variance are those of a two-way table."""
    rng = np.random.default_rng(0)
    num_images, num_seeds = 400, 4
    table = rng.normal(0, 1, num_images) + rng.normal(0, 0.5, (num_seeds, 1))
    table = table + rng.normal(0, 2, (num_seeds, num_images))
    weights = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=4000)
    values = Values(table.mean(axis=1), table @ weights.T / num_images)
    found = estimate(values, num_images)
    over_seeds = table.mean(axis=1).var(ddof=1) / num_seeds
    own = table - table.mean(axis=0)
    interaction = (own - own.mean(axis=1, keepdims=True)).var(axis=1).sum() / (num_seeds - 1) / num_images
    over_images = table.mean(axis=0).var() / num_images - interaction / num_seeds
    assert found.difference == pytest.approx(table.mean())
    assert found.seed_variance == pytest.approx(over_seeds)
    assert found.image_variance == pytest.approx(over_images, rel=0.15)  # 4,000 resamples


def test_one_seed_has_the_images_part_alone() -> None:
    values = Values(np.array([0.1]), np.random.default_rng(0).normal(0.1, 0.02, (1, 5000)))
    found = estimate(values, 100)
    assert (found.seed_variance, found.num_seeds) == (0.0, 1)
    assert found.image_variance == pytest.approx(0.0004, rel=0.1)


def test_resamples_without_ground_truth_are_skipped() -> None:
    resampled = np.array([[0.1, np.nan, 0.3], [0.2, np.nan, 0.4]])
    found = estimate(Values(np.array([0.2, 0.3]), resampled), 2)
    assert found.difference == pytest.approx(0.25)
    assert found.image_variance == pytest.approx(0.02 * 2)
