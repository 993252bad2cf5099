"""COCO's metrics are COCO's: the published ones, the reference library's own, and a worked example."""

import contextlib
import gzip
import importlib.metadata
import io
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rfdetr_hwd.evaluation.coco import COCO_METRICS, CocoMetric
from rfdetr_hwd.evaluation.detections import Detections
from tests.unit.evaluation.hard_sets import CATEGORY_IDS, make_set

GOLDEN = Path(__file__).parents[2] / "golden" / "coco_val2014_100.json.gz"
PUBLISHED = (0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564)


def golden() -> tuple[dict, list]:
    content = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    return content["ground_truth"], content["detections"]


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("max_dets", [None, 500])
def test_published_figures(backend: str, max_dets: int | None) -> None:
    truth, detections = golden()
    metric = CocoMetric(truth, [c["id"] for c in truth["categories"]], max_dets, backend)
    metric.add(Detections.from_results(detections))
    metrics = metric.compute()
    assert tuple(round(metrics[name], 3) for name in COCO_METRICS) == PUBLISHED
    assert ("AP@500" in metrics) == (max_dets is not None)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_the_metrics_are_those_of_the_reference_summary(seed: int) -> None:
    truth, detections = make_set(seed)
    results = []
    for backend in ("hotcoco", "pycocotools"):
        metric = CocoMetric(truth, CATEGORY_IDS, 500, backend)
        metric.add(Detections.from_results(detections))
        results.append(metric.compute())
    assert results[0] == pytest.approx(results[1], abs=1e-9)
    if detections:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = {**truth, "annotations": [{**a, "id": a["id"] + 1} for a in truth["annotations"]]}
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
    assert metric.detections.to_results() == [
        {"image_id": 42, "category_id": 90, "bbox": [10.0, 20.0, 30.0, 40.0], "score": pytest.approx(0.9)}
    ]
    metrics = metric.compute()
    assert metrics["AP"] == pytest.approx(1.0)
    assert metrics["AP/a"] is None
    assert metrics["AP_small"] is None


def test_without_detections_it_is_nought() -> None:
    truth, _ = golden()
    assert CocoMetric(truth, [c["id"] for c in truth["categories"]], 500).compute()["AP"] == 0


def test_labels_without_a_category_and_non_finite_detections_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    truth = {"images": [{"id": 0}, {"id": 2}], "annotations": [], "categories": [{"id": 0, "name": "a"}]}
    metric = CocoMetric(truth, (None, 0))
    box = [1.0, 2.0, 4.0, 6.0]
    nothing = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    boxes = torch.tensor([box, box, [float("nan")] * 4, box, [*box[:3], float("inf")]])
    scores = torch.tensor([0.5, 0.25, 1, float("nan"), 1])
    for _ in range(2):
        metric.update([0, 2], [nothing, {"boxes": boxes, "scores": scores, "labels": torch.tensor([0, 1, 1, 1, 1])}])
    expected = {"image_id": 2, "category_id": 0, "bbox": [1, 2, 3, 4], "score": 0.25}
    assert metric.detections.to_results() == [expected, expected]
    assert len(caplog.records) == 1
    assert "non-finite box or score, the first in image 2" in caplog.text
    metric.reset()
    assert len(metric.detections) == 0


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_the_protocol_names_the_library_and_its_version(backend: str) -> None:
    truth, _ = golden()
    protocol = CocoMetric(truth, (), None, backend).protocol
    assert (protocol["backend"], protocol["backend_version"]) == (backend, importlib.metadata.version(backend))


def test_thresholds_are_those_of_the_best_f1() -> None:
    """Cats: right at 0.9 and 0.6, wrong at 0.3. The best threshold lies between 0.6 and 0.3."""
    truth = {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [20 * i, 0, 10, 10], "area": 100, "iscrowd": 0}
            for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    metric = CocoMetric(truth, category_ids=(1, 2))
    boxes = [([20, 0, 10, 10], 0.9), ([40, 0, 10, 10], 0.6), ([80, 0, 10, 10], 0.3)]
    metric.add(
        Detections.from_results([{"image_id": 1, "category_id": 1, "bbox": box, "score": s} for box, s in boxes])
    )
    assert metric.thresholds() == pytest.approx({"threshold": 0.45, "threshold/cat": 0.45, "threshold/dog": None})
