"""Annotations are read as ground truth without the images that they describe."""

import json
from pathlib import Path
from typing import Any

import pytest

from rfdetr_hwd.data.coco.ground_truth import read_annotations
from rfdetr_hwd.data.findings import DatasetError

IMAGE = {"id": 0, "file_name": "far/away.jpg", "width": 30, "height": 20}
CATEGORY = {"id": 0, "name": "cat"}
ANNOTATION = {"id": 0, "image_id": 0, "category_id": 0, "bbox": [1, 2, 3, 4], "area": 12.5, "iscrowd": 1}


def write(path: Path, image: dict[str, Any] = IMAGE, annotation: dict[str, Any] = ANNOTATION) -> Path:
    path.write_text(json.dumps({"images": [image], "annotations": [annotation], "categories": [CATEGORY]}))
    return path


def test_annotations_keep_their_ids_areas_and_crowds(tmp_path: Path) -> None:
    truth = read_annotations(write(tmp_path / "truth.json")).ground_truth()
    assert truth["images"] == [{"id": 0, "height": 20, "width": 30}]
    assert truth["categories"] == [CATEGORY]
    assert truth["annotations"] == [{**ANNOTATION, "id": 1}]


def test_annotations_that_would_distort_metrics_are_refused(tmp_path: Path) -> None:
    without_size = {key: value for key, value in IMAGE.items() if key != "width"}
    with pytest.raises(DatasetError, match="image 0 has no width and height"):
        read_annotations(write(tmp_path / "truth.json", image=without_size))
    stray = write(tmp_path / "stray.json", annotation={**ANNOTATION, "image_id": 9})
    with pytest.raises(DatasetError, match=r"unknown_image") as raised:
        read_annotations(stray)
    assert str(raised.value).endswith(f"Correct {stray}, or give the annotations that the detections were made for")
    assert "data check" not in str(raised.value)
    assert len(read_annotations(stray, allow=["unknown_image"]).labels) == 0
    (tmp_path / "other.json").write_text('{"annotations": []}')
    with pytest.raises(DatasetError, match="'images' is missing"):
        read_annotations(tmp_path / "other.json")
    for content, message in ((b" \n", "other.json is empty"), (b"\xff\x00{", "it is not UTF-8 text")):
        (tmp_path / "other.json").write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            read_annotations(tmp_path / "other.json")
    with pytest.raises(DatasetError, match="Is a directory"):
        read_annotations(tmp_path)
