"""Simple detectors as boxes, for comparisons with a known outcome."""

from typing import Any

import numpy as np

from rfdetr_hwd.evaluation.detections import Detections


def make_truth(seed: int, num_images: int, objects: int = 3) -> dict[str, Any]:
    """Return a ground truth of two classes with objects of 20 to 60 pixels."""
    rng = np.random.default_rng(seed)
    annotations = []
    for image in range(num_images):
        for _ in range(rng.integers(1, objects + 1)):
            box = [*rng.uniform(0, 300, 2), *rng.uniform(20, 60, 2)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.integers(1, 3)),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    images = [{"id": image, "height": 400, "width": 400} for image in range(num_images)]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def detect(truth: dict[str, Any], seed: int, noise: float = 1.0) -> Detections:
    """Return detections of 85 % of the objects, `noise` pixels off, and a false positive for every second object."""
    rng = np.random.default_rng([seed, 1])
    objects = truth["annotations"]
    count = len(objects)
    boxes = np.array([o["bbox"] for o in objects]) + rng.normal(0, noise, (count, 4))
    image_ids = np.array([o["image_id"] for o in objects])
    category_ids = np.array([o["category_id"] for o in objects])
    found = Detections(image_ids, category_ids, boxes, rng.beta(5, 2, count))[rng.random(count) < 0.85]
    elsewhere = np.concatenate([rng.uniform(0, 300, (count, 2)), rng.uniform(20, 60, (count, 2))], axis=1)
    false = Detections(image_ids, rng.permutation(category_ids), elsewhere, rng.beta(2, 4, count))[::2]
    return Detections.concatenate([found, false])


def jitter(detections: Detections, seed: int, pixels: float = 2.0) -> Detections:
    """Return the detections with boxes moved by a normal deviate of as many pixels."""
    moved = detections.boxes_xywh.copy()
    moved[:, :2] += np.random.default_rng([seed, 2]).normal(0, pixels, (len(detections), 2))
    return Detections(detections.image_ids, detections.category_ids, moved, detections.scores)
