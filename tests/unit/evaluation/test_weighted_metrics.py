"""Metrics of weighted images are COCO's metrics of the dataset with its images repeated."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.evaluation.coco import CocoMetric
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import match
from rfdetr_hwd.evaluation.weighted_metrics import METRICS, coco_metrics, resampled_metrics
from tests.unit.evaluation.random_sets import CATEGORIES, random_set, repeat_images

GOLDEN = Path(__file__).parents[2] / "golden" / "coco_val2014_100.json.gz"


def reference(truth: dict, detections: Detections) -> dict[str, float | None]:
    metric = CocoMetric(truth, [category["id"] for category in truth["categories"]], backend="pycocotools")
    metric.add(detections)
    return metric.compute()


def test_weights_of_one_give_the_metrics_of_pycocotools() -> None:
    content = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    truth, detections = content["ground_truth"], Detections.from_results(content["detections"])
    metrics = coco_metrics(match(truth, detections))
    assert metrics == pytest.approx(reference(truth, detections), abs=1e-9)
    assert round(metrics["AP"], 3) == 0.505  # as published


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 3), min_size=6, max_size=6).filter(any))
def test_weights_repeat_images(seed: int, counts: list[int]) -> None:
    """Without ties: the order of equal scores in different images is the order of the images."""
    truth, detections = random_set(seed, tied=False)
    weighted = coco_metrics(match(truth, detections), np.array(counts))
    assert weighted == pytest.approx(reference(*repeat_images(truth, detections, counts)), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_random_sets_with_ties_equal_pycocotools(seed: int) -> None:
    truth, detections = random_set(seed)
    assert coco_metrics(match(truth, detections)) == pytest.approx(reference(truth, detections), abs=1e-9)


@pytest.mark.parametrize("num_resamples", [3, 100])  # rows are accumulated in two ways
def test_resamples_are_computed_together_as_each_alone(num_resamples: int) -> None:
    truth, detections = random_set(1, num_images=20)
    matches = match(truth, detections)
    weights = np.random.default_rng(0).multinomial(20, np.full(20, 0.05), size=num_resamples)
    together = resampled_metrics(matches, weights)
    assert list(together) == [*METRICS, *(f"AP/c{category}" for category in CATEGORIES)]
    for row in (0, num_resamples - 1):
        alone = coco_metrics(matches, weights[row])
        assert {k: v[row] for k, v in together.items()} == pytest.approx(
            {k: np.nan if v is None else v for k, v in alone.items()}, abs=1e-12, nan_ok=True
        )


def test_blocks_of_resamples_do_not_change_them(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = match(*random_set(1, num_images=20))
    weights = np.random.default_rng(0).multinomial(20, np.full(20, 0.05), size=10)
    whole = resampled_metrics(matches, weights)
    monkeypatch.setattr("rfdetr_hwd.evaluation.weighted_metrics._BLOCK", 90)
    for name, values in resampled_metrics(matches, weights).items():
        assert np.allclose(values, whole[name], rtol=0, atol=1e-12, equal_nan=True)


def test_a_class_without_ground_truth_leaves_the_mean_of_that_resample() -> None:
    box = np.array([[0.0, 0.0, 40.0, 40.0]])
    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i, "bbox": box[0], "area": 1600, "iscrowd": 0} for i in (1, 2)
        ],
    }
    matches = match(truth, Detections(np.array([1]), np.array([1]), box, np.ones(1)))  # the cat is found
    resampled = resampled_metrics(matches, np.array([[1, 1], [2, 0], [0, 2]]), ["AP", "AP/dog", "AP_small", "AR_1"])
    assert resampled["AP"] == pytest.approx([0.5, 1.0, 0.0])
    assert resampled["AR_1"].tolist() == [0.5, 1.0, 0.0]
    assert np.array_equal(resampled["AP/dog"], [0.0, np.nan, 0.0], equal_nan=True)
    assert np.isnan(resampled["AP_small"]).all()
    assert coco_metrics(matches, metrics=["AP_small", "AP50"]) == {"AP_small": None, "AP50": pytest.approx(0.5)}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.125, 64]))
def test_the_scale_of_the_weights_does_not_matter(seed: int, scale: float) -> None:
    matches = match(*random_set(seed))
    weights = np.random.default_rng(seed).random(6) + 0.1
    assert coco_metrics(matches, weights * scale) == pytest.approx(coco_metrics(matches, weights), abs=1e-9)
