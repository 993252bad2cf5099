"""A small annotation file with two images, to be changed by the tests."""

import json
from pathlib import Path
from typing import Any

from rfdetr_hwd.data import read
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import Findings
from rfdetr_hwd.data.layout import Split

CONTENT: dict[str, Any] = {
    "categories": [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 7, "name": "cat", "supercategory": "things"},
        {"id": 3, "name": "dog", "supercategory": "things"},
    ],
    "images": [
        {"id": 5, "file_name": "b.jpg", "width": 100, "height": 80},
        {"id": 2, "file_name": "a.jpg", "width": 60, "height": 40},
    ],
    "annotations": [
        {"id": 0, "image_id": 2, "category_id": 7, "bbox": [1.1, 2, 10, 20.7], "area": 99, "iscrowd": 0},
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [90, 70, 20, 20], "iscrowd": 0},
        {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 1},
        {"id": 3, "image_id": 5, "category_id": 7, "bbox": [5, 5, 0, 4], "area": 0, "iscrowd": 0},
    ],
}


def write_split(root: Path, content: object = CONTENT, split: str = "train") -> Path:
    """Write a split in Roboflow's layout, with empty files for images, and return the root."""
    folder = root / split
    folder.mkdir(exist_ok=True, parents=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "_annotations.coco.json").write_text(text)
    for name in ("a.jpg", "b.jpg"):
        (folder / name).touch()
    return root


def with_annotation(**changes: object) -> dict[str, Any]:
    """Return the content with one annotation, changed; `...` removes a key."""
    annotation = {**CONTENT["annotations"][0], **changes}
    return {**CONTENT, "annotations": [{k: v for k, v in annotation.items() if v is not ...}]}


def with_image(**changes: object) -> dict[str, Any]:
    """Return the content with its second image changed, and the annotation of the first."""
    image = {**CONTENT["images"][1], **changes}
    images = [CONTENT["images"][0], {k: v for k, v in image.items() if v is not ...}]
    return {**CONTENT, "images": images, "annotations": CONTENT["annotations"][2:3]}


def scan_split(split: Split) -> tuple[DetectionData, Findings]:
    """Return what can be used of a split, and what was found."""
    findings = Findings()
    return read.scan_split(split, findings), findings
