"""Boxes that are written as fractions of the image, or as two corners, are refused: read as pixels they teach nothing.

Boxes that are right are let pass, also where some leave their image or are small.
"""

from pathlib import Path

import pytest

from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.read import read_split, scan_split
from tests.unit.data.coco_files import write_split
from tests.unit.data.voc_files import voc_xml, write_files

WIDTH, HEIGHT = 80, 60
FRACTIONS = [[0.0625, 0.6, 0.625, 0.367], [0, 0, 1, 1], [0.5, 0.5, 0.5, 0.50005]]
CORNERS = [[30, 20, 70, 50], [60, 40, 80, 60], [50, 5, 61, 30], [1, 1, 9, 9], [2, 2, 30, 30]]
"""Three of five leave an image of 80x60 as x, y, width, height."""
INSIDE = [[1, 2, 30, 30]]


def write(root: Path, boxes: list[list[float]], side: int = 1) -> Path:
    image = {"id": 1, "file_name": "a.jpg", "width": WIDTH // side, "height": HEIGHT // side}
    ids = {"image_id": 1, "category_id": 1, "area": 1, "iscrowd": 0}
    annotations = [{"id": i, **ids, "bbox": box} for i, box in enumerate(boxes, 1)]
    content = {"images": [image], "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
    return write_split(root, content)


def suspicions(root: Path) -> dict[str, str]:
    findings = Findings()
    scan_split(find_layout(root).split("train"), findings)
    return {kind: found[0].reason for kind, found in findings.examples.items() if kind.endswith("_suspected")}


@pytest.mark.parametrize("boxes", [FRACTIONS, FRACTIONS[:1], [*FRACTIONS, [0, 0, 0, 0]], [[0, 0, 1, 1]] * 3])
def test_fractions_of_the_image_are_refused(tmp_path: Path, boxes: list[list[float]]) -> None:
    split = find_layout(write(tmp_path, boxes)).split("train")
    with pytest.raises(DatasetError, match="look like fractions of the image. Multiply x values and widths by the wid"):
        read_split(split)
    assert read_split(split, ("fractions_suspected",)).boxes_xywh[0].tolist() == boxes[0]


def test_fractions_in_pascal_voc_are_refused(tmp_path: Path) -> None:
    boxes = [("x", x0, y0, x0 + w, y0 + h) for x0, y0, w, h in FRACTIONS]
    write_files(tmp_path, {"JPEGImages/a.jpg": "", "Annotations/a.xml": voc_xml(*boxes)})
    assert list(suspicions(tmp_path)) == ["fractions_suspected"]


@pytest.mark.parametrize(
    ("boxes", "side"),
    [([*FRACTIONS, [5, 5, 2, 2]], 1), ([*FRACTIONS, [0.5, 0, 0.6, 0.5]], 1), ([[0, 0, 1, 1]] * 2, 1), (FRACTIONS, 8)],
)
def test_small_boxes_are_no_fractions(tmp_path: Path, boxes: list[list[float]], side: int) -> None:
    assert suspicions(write(tmp_path, boxes, side)) == {}


@pytest.mark.parametrize("boxes", [CORNERS, [*CORNERS, *INSIDE * 10], [*CORNERS, [70, 50, 81, 61]]])
def test_corners_are_refused(tmp_path: Path, boxes: list[list[float]]) -> None:
    split = find_layout(write(tmp_path, boxes)).split("train")
    with pytest.raises(DatasetError, match=r"all fit as corners .*Write \[x1, y1, x2 - x1, y2 - y1\]"):
        read_split(split)
    assert read_split(split, ("corners_suspected",)).boxes_xywh[0].tolist() == boxes[0]


@pytest.mark.parametrize(
    "boxes",
    [
        [*CORNERS, *INSIDE * 11],  # fewer than a fifth leave the image
        [*CORNERS[1:], [4, 4, 20, 20]],  # two do
        [*CORNERS, [40, 5, 30, 30]],  # no corners
        [*CORNERS, [30, 20, 82, 50]],  # outside as corners, too
        [[70, 5, 20, 20], [75, 30, 20, 20], [60, 50, 10, 20], [-5, 3, 20, 20]],  # clipped at the border
    ],
)
def test_boxes_that_leave_their_image_are_no_corners(tmp_path: Path, boxes: list[list[float]]) -> None:
    assert suspicions(write(tmp_path, boxes)) == {}
