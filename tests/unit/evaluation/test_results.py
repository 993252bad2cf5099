"""Files of detections: written as `json.dumps` does, read from anyone, refused in one line."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rfdetr_hwd.data.coco.ground_truth import read_annotations
from rfdetr_hwd.evaluation import results
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.results import ResultsError, read_results, write_results

TRUTH = {"images": [{"id": 0}, {"id": 2**62}], "categories": [{"id": 0, "name": "a"}, {"id": 90, "name": "b"}]}
GOOD = {"image_id": 0, "category_id": 90, "bbox": [1, 2.5, 3, 4], "score": 1}


def make_detections(number: int) -> Detections:
    rng = np.random.default_rng(0)
    return Detections(
        rng.choice([0, 2**62], number),
        rng.choice([0, 90], number),
        np.abs(rng.normal(0, 300, (number, 4)).astype(np.float32)).astype(np.float64),
        rng.random(number),
    )


@pytest.mark.parametrize("number", [0, 1, 7])
def test_detections_are_written_as_json_writes_them_and_read_again(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_CHUNK", 3)
    annotations = tmp_path / "truth.json"
    image = {"id": 0, "file_name": "a.jpg", "width": 10, "height": 10}
    annotations.write_text(json.dumps({"images": [image], "annotations": [], "categories": TRUTH["categories"]}))
    detections = make_detections(number)
    write_results(tmp_path, {"AP": 0.5}, {"backend": "hotcoco"}, detections, read_annotations(annotations))
    assert (tmp_path / "predictions.json").read_text() == json.dumps(detections.to_results())
    content = {"metrics": {"AP": 0.5}, "protocol": {"backend": "hotcoco"}}
    assert json.loads((tmp_path / "metrics.json").read_text()) == content
    assert json.loads((tmp_path / "ground_truth.json").read_text())["images"][0]["file_name"] == "a.jpg"
    again = read_results(tmp_path / "predictions.json", TRUTH)
    assert again.to_results() == detections.to_results()
    assert (again.image_ids.dtype, again.boxes_xywh.shape) == (np.int64, (number, 4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"bbox": [1, 2, 3]},
            "bbox of detection 1 must be [x, y, width, height] in pixels, the size not negative, not [1, 2, 3]",
        ),
        (
            {"bbox": [1, 2, 3, "4"]},
            "bbox of detection 1 must be [x, y, width, height] in pixels, the size not negative",
        ),
        (
            {"bbox": [1, 2, 3, True]},
            "bbox of detection 1 must be [x, y, width, height] in pixels, the size not negative",
        ),
        ({"bbox": {"x": 1}}, "bbox of detection 1 must be [x, y, width, height] in pixels, the size not negative"),
        (
            {"bbox": None},
            "bbox of detection 1 must be [x, y, width, height] in pixels, the size not negative, not None",
        ),
        ({"score": "0.5"}, "score of detection 1 must be a number from 0 to 1, not '0.5'"),
        ({"score": True}, "score of detection 1 must be a number from 0 to 1, not True"),
        ({"score": -0.1}, "score of detection 1 must be a number from 0 to 1, not -0.1"),
        ({"score": 1.01}, "score of detection 1 must be a number from 0 to 1, not 1.01"),
        ({"bbox": [1, 2, -3, 3]}, "bbox of detection 1 must be [x, y, width, height] in pixels, the size not negative"),
        ({"bbox": [1, 2, 1e300, 3]}, "bbox of detection 1 must be [x, y, width, height] in pixels"),
        ({"score": 10**400}, "score of detection 1 must be a number from 0 to 1, not 1000"),
        ({"image_id": 7}, "image_id 7 of detection 1 is not among the 2 images of the ground truth; unknown ids: 1."),
        ({"image_id": "0"}, "image_id of detection 1 must be a whole number, not '0'"),
        ({"image_id": 0.5}, "image_id of detection 1 must be a whole number, not 0.5"),
        ({"category_id": 10**30}, "is not among the 2 categories of the ground truth"),
    ],
)
def test_an_invalid_detection_is_named(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps([GOOD, {**GOOD, **change}]))
    with pytest.raises(ResultsError, match=re.escape(reason)) as caught:
        read_results(path, TRUTH)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps({"images": []}), "is not a file of detections in COCO's results format: it is not a JSON list"),
        ("[1, ", "it is not valid JSON"),
        ("[" * 100_000, "it is not valid JSON"),
        ("\udcff", "it is not UTF-8 text"),
        (json.dumps([GOOD, 5]), "detection 1 must be an object, not 5"),
        (json.dumps([{"image_id": 0, "bbox": [0, 0, 1, 1], "score": 1}]), "detection 0 has no category_id. Its keys"),
        (json.dumps([{**GOOD, "score": float("nan")}]), "it contains NaN, which is not JSON"),
        (
            json.dumps([GOOD]).replace("2.5", "1e999"),
            "bbox of detection 0 must be [x, y, width, height] in pixels, the size not negative",
        ),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_line(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ResultsError, match=re.escape(reason)) as caught:
        read_results(path, TRUTH)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResultsError, match="there is no file of detections"):
        read_results(tmp_path / "r.json", TRUTH)
    (tmp_path / "r.json").write_text(json.dumps([GOOD]))
    monkeypatch.setattr(results, "MAX_RESULTS_BYTES", 10)
    with pytest.raises(ResultsError, match="more than the limit of 10"):
        read_results(tmp_path / "r.json", TRUTH)
