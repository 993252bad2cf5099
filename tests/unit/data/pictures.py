"""Datasets of pictures that each show one red rectangle, their only box: what is read can be held to the pixels."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from rfdetr_hwd.data.annotations import DetectionData

WIDTH, HEIGHT = 40, 30


def box_of(number: int) -> tuple[int, int, int, int]:
    """Return the box (x, y, width, height) of a picture, which no other of the first 200 has."""
    return 2 + number % 20, 1 + number // 20, 8, 6


def draw(path: Path, number: int) -> Path:
    """Write the picture of a number, in the format of the path's suffix."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    x, y, width, height = box_of(number)
    pixels[y : y + height, x : x + width] = (250, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path, "png")  # exact, whatever it is called
    return path


def annotate(names: Sequence[str], first: int = 0, **image: Any) -> dict[str, Any]:
    """Return the COCO content for pictures of the numbers from `first`, under the names that are given."""
    return {
        "images": [
            {"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT, **image} for i, name in enumerate(names, 1)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": list(box_of(first + i - 1)), "area": 48, "iscrowd": 0}
            for i in range(1, len(names) + 1)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def num_right(data: DetectionData) -> int:
    """Return how many images have the one box that their pixels show."""
    right = 0
    for row in range(len(data)):
        red = np.asarray(data.read(row))[..., 0] > 200
        ys, xs = np.nonzero(red)
        shown = [xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()]
        boxes = data.boxes_xywh[data.offsets[row] : data.offsets[row + 1]]
        right += len(boxes) == 1 and bool(np.allclose(boxes[0], shown, atol=1e-9))
    return right
