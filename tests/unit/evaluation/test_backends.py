"""hotcoco gives pycocotools' numbers: pycocotools is called here as its own users call it, with dictionaries."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rfdetr_hwd.evaluation.backends import measure_curves, number_truth
from rfdetr_hwd.evaluation.detections import Detections
from tests.unit.evaluation.hard_sets import make_set


def measure_with_pycocotools(
    truth: dict[str, Any], detections: list[dict[str, Any]], max_dets: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    numbered = [{**annotation, "id": number} for number, annotation in enumerate(truth["annotations"], 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {**truth, "annotations": numbered}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(d) for d in detections]), "bbox")
        evaluation.params.maxDets = max_dets
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([[1, 10, 100], [1, 10, 100, 120], [1, 10, 100, 500]]))
def test_both_libraries_equal_plain_pycocotools(seed: int, max_dets: list[int]) -> None:
    truth, detections = make_set(seed)
    if not detections:
        return
    expected = measure_with_pycocotools(truth, detections, max_dets)
    found = Detections.from_results(detections)
    for backend in ("hotcoco", "pycocotools"):
        for curve, reference in zip(
            measure_curves(number_truth(truth), found, max_dets, backend), expected, strict=True
        ):
            np.testing.assert_allclose(curve, reference, rtol=0, atol=1e-9)


@pytest.mark.parametrize("backend", ["hotcoco", "pycocotools"])
def test_without_detections_or_annotations(backend: str) -> None:
    truth, detections = make_set(3)
    precision, recall = measure_curves(number_truth(truth), Detections.none(), [1, 10, 100], backend)
    assert precision.shape == (10, 101, 3, 4, 3)
    assert precision[:, :, 1, 0].max() == recall[:, 1, 0].max() == 0
    assert (precision[:, :, 2] == -1).all()  # of the last class there is no object
    precision, recall = measure_curves(
        number_truth({**truth, "annotations": []}), Detections.from_results(detections), [1], backend
    )
    assert (precision == -1).all()
    assert (recall == -1).all()


@pytest.mark.parametrize(("key", "what"), [("image_id", "image"), ("category_id", "category")])
def test_a_detection_of_something_unknown_is_refused(key: str, what: str) -> None:
    truth, _ = make_set(3)
    stray = {"image_id": 0, "category_id": 5, "bbox": [0, 0, 1, 1], "score": 1.0, key: 4}
    with pytest.raises(ValueError, match=f"a detection of an unknown {what}: 4"):
        measure_curves(number_truth(truth), Detections.from_results([stray]), [100], "hotcoco")
