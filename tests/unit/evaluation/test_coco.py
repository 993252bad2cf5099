"""COCO's metrics are COCO's: the published ones, the reference library's own, and a worked example."""

import contextlib
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rfdetr_hwd.evaluation.coco import COCO_METRICS, CocoMetric

GOLDEN = Path(__file__).parents[2] / "golden" / "coco_val2014_100.json.gz"
PUBLISHED = (0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564)


def golden() -> tuple[dict, list]:
    content = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    return content["ground_truth"], content["detections"]


@pytest.mark.parametrize("backend", ["pycocotools", "faster"])
@pytest.mark.parametrize("max_dets", [None, 500])
def test_published_figures(backend: str, max_dets: int | None) -> None:
    truth, detections = golden()
    metric = CocoMetric(truth, [c["id"] for c in truth["categories"]], max_dets, backend)
    metric.add(detections)
    metrics = metric.compute()
    assert tuple(round(metrics[name], 3) for name in COCO_METRICS) == PUBLISHED
    assert ("AP@500" in metrics) == (max_dets is not None)


def random_set(seed: int) -> tuple[dict, list]:
    """Random boxes with crowds, empty images, duplicates and ties."""
    rng = np.random.default_rng(seed)
    images = [{"id": int(i), "height": 300, "width": 300} for i in rng.choice(1000, 6, replace=False)]
    categories = [{"id": i, "name": f"c{i}"} for i in (3, 7, 90)]
    annotations, detections = [], []
    for image in images[:-1]:
        for _ in range(rng.integers(0, 6)):
            box = [*rng.uniform(0, 150, 2).round(1), *rng.choice([10, 20, 50, 80, 120], 2)]
            box = [float(value) for value in box]
            category = int(rng.choice([3, 7, 90]))
            crowd = int(rng.random() < 0.2)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": crowd,
                }
            )
            for _ in range(rng.integers(0, 3)):
                moved = [float(value) for value in np.array(box) + rng.normal(0, 6, 4) * [1, 1, 0.3, 0.3]]
                detections.append(
                    {
                        "image_id": image["id"],
                        "category_id": category,
                        "bbox": moved,
                        "score": float(rng.integers(1, 9)) / 9,
                    }
                )
    return {"images": images, "annotations": annotations, "categories": categories}, detections


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_random_sets_equal_pycocotools_and_the_fast_backend(seed: int) -> None:
    truth, detections = random_set(seed)
    results = []
    for backend in ("pycocotools", "faster"):
        metric = CocoMetric(truth, (3, 7, 90), 500, backend)
        metric.add(detections)
        results.append(metric.compute())
    assert results[0] == pytest.approx(results[1], abs=1e-9)
    if detections:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = {"info": {}, **truth}
            coco.createIndex()
            reference = COCOeval(coco, coco.loadRes(detections), "bbox")
            reference.evaluate(), reference.accumulate(), reference.summarize()
        expected = [None if value == -1 else pytest.approx(value, abs=1e-9) for value in reference.stats]
        assert [results[0][name] for name in COCO_METRICS] == expected


def test_tensors_become_the_datasets_own_ids() -> None:
    truth = {
        "images": [{"id": 42, "height": 100, "width": 100}],
        "annotations": [
            {"id": 1, "image_id": 42, "category_id": 90, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0}
        ],
        "categories": [{"id": 7, "name": "a"}, {"id": 90, "name": "b"}],
    }
    metric = CocoMetric(truth, (7, 90))
    result = {
        "boxes": torch.tensor([[10.0, 20, 40, 60], [0, 0, 1, 1]]),
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([1, 2]),  # 2 is the network's unused logit
    }
    metric.update([42], [result])
    assert metric.detections == [
        {"image_id": 42, "category_id": 90, "bbox": [10.0, 20.0, 30.0, 40.0], "score": pytest.approx(0.9)}
    ]
    metrics = metric.compute()
    assert metrics["AP"] == pytest.approx(1.0)
    assert metrics["AP/a"] is None
    assert metrics["AP_small"] is None


def test_without_detections_it_is_nought() -> None:
    truth, _ = golden()
    assert CocoMetric(truth, [c["id"] for c in truth["categories"]], 500).compute()["AP"] == 0
