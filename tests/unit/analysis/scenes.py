"""Small datasets with detections, written as rows."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from rfdetr_hwd.analysis.overlaps import Overlaps, find_overlaps
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import Matches, match

GOLDEN = Path(__file__).parents[2] / "golden" / "coco_val2014_100.json.gz"
CLASSES = ("cat", "dog", "cow")


def scene(
    objects: list[tuple], found: list[tuple], num_images: int = 1, classes: tuple[str, ...] = CLASSES
) -> tuple[dict[str, Any], Detections]:
    """Objects are (image, class, box xywh), optionally with 1 for a crowd. Detections are (image, class, box, score).

    Images are 200 pixels wide and 100 high.
    """
    annotations = [
        {
            "id": 10 + row,
            "image_id": image,
            "category_id": classes.index(name),
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": int(any(crowd)),
        }
        for row, (image, name, box, *crowd) in enumerate(objects)
    ]
    results = [
        {"image_id": image, "category_id": classes.index(name), "bbox": box, "score": score}
        for image, name, box, score in found
    ]
    images = [{"id": image, "height": 100, "width": 200} for image in range(num_images)]
    categories = [{"id": row, "name": name} for row, name in enumerate(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}, Detections.from_results(results)


def matched(truth: dict[str, Any], detections: Detections) -> tuple[Matches, Overlaps]:
    matches = match(truth, detections)
    return matches, find_overlaps(truth, detections, matches)


def golden() -> tuple[dict[str, Any], Detections]:
    content = json.loads(gzip.decompress(GOLDEN.read_bytes()))
    return content["ground_truth"], Detections.from_results(content["detections"])


def random_scene(seed: int, crowds: float = 0.0) -> tuple[dict[str, Any], Detections]:
    """Full images, with detections that are moved or of another class. No two scores are equal. No cow is there."""
    rng = np.random.default_rng(seed)
    num_images = int(rng.integers(1, 6))
    objects, found = [], []
    for image in range(num_images):
        for _ in range(rng.integers(0, 8)):
            box = [*rng.uniform(0, 60, 2), *rng.uniform(8, 60, 2)]
            name = str(rng.choice(CLASSES[:2]))
            objects.append((image, name, [float(value) for value in box], rng.random() < crowds))
            for _ in range(rng.integers(0, 4)):
                moved = np.array(box) + rng.normal(0, rng.choice([1, 4, 12]), 4)
                moved[2:] = np.maximum(moved[2:], 2)
                detected = name if rng.random() < 0.7 else str(rng.choice(CLASSES))
                found.append((image, detected, moved.tolist(), float(rng.random())))
    return scene(objects, found, num_images)
