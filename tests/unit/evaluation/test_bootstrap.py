"""Intervals of one run."""

import numpy as np
import pytest

from rfdetr_hwd.evaluation.bootstrap import bootstrap_intervals, draw_images, image_variance
from rfdetr_hwd.evaluation.matching import match
from rfdetr_hwd.evaluation.weighted_metrics import METRICS, coco_metrics
from tests.unit.evaluation.random_sets import random_set


def test_a_resample_has_as_many_images_and_follows_its_seed() -> None:
    drawn = draw_images(7, 500, seed=3)
    assert drawn.shape == (500, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert drawn.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)
    assert np.array_equal(drawn, draw_images(7, 500, seed=3))


def test_the_variance_of_a_mean_is_unbiased() -> None:
    values = np.random.default_rng(0).normal(0, 1, 10)
    means = draw_images(10, 20000, seed=0) @ values / 10
    assert image_variance(means, 10) == pytest.approx(values.var(ddof=1) / 10, rel=0.05)
    assert image_variance(np.array([np.nan, 0.5]), 10) == 0


def test_intervals_hold_the_value_and_stay_between_0_and_1() -> None:
    matches = match(*random_set(5, num_images=25))
    intervals = bootstrap_intervals(matches, resamples=200)
    values = coco_metrics(matches)
    assert list(intervals) == list(values)
    assert set(METRICS) < set(intervals)
    for name, interval in intervals.items():
        if interval is not None:
            assert interval.value == values[name]
            assert 0 <= interval.low < interval.value < interval.high <= 1
    assert intervals["AP/c90"] is None  # no ground truth
    narrow = bootstrap_intervals(matches, ["AP"], resamples=200, level=0.5)["AP"]
    assert intervals["AP"].low < narrow.low < narrow.high < intervals["AP"].high


def test_a_class_of_one_image_has_no_interval() -> None:
    truth, detections = random_set(5, num_images=25)
    kept = next(a["image_id"] for a in truth["annotations"] if a["category_id"] == 7 and not a["iscrowd"])
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] == 3 or a["image_id"] == kept]
    intervals = bootstrap_intervals(match(truth, detections), ["AP/c3", "AP/c7"], resamples=20)
    assert intervals["AP/c3"] is not None
    assert intervals["AP/c7"] is None
