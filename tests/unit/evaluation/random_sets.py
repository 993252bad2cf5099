"""Random ground truths and detections with everything COCO's matching treats specially, and COCO's own evaluation."""

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rfdetr_hwd.evaluation.detections import Detections

CATEGORIES = (3, 7, 90)


def random_set(seed: int, num_images: int = 6, tied: bool = True) -> tuple[dict[str, Any], Detections]:
    """Return crowds, areas that are not the box's, empty images and classes, duplicates, equal scores and boxes.

    Args:
        seed: Draws everything.
        num_images: Number of images. The last has no objects.
        tied: Draw scores of which many are equal.
    """
    rng = np.random.default_rng(seed)
    images = [{"id": int(i), "height": 300, "width": 300} for i in rng.choice(1000, num_images, replace=False)]
    annotations: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for image in images:
        for _ in range(0 if image is images[-1] else rng.integers(0, 7)):
            box = [*rng.uniform(0, 150, 2).round(), *rng.choice([10.0, 32.0, 50.0, 96.0, 120.0], 2)]
            category = int(rng.choice(CATEGORIES[:2]))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": [float(value) for value in box],
                    "area": float(box[2] * box[3] * rng.choice([1.0, 0.6])),
                    "iscrowd": int(rng.random() < 0.2),
                }
            )
            for _ in range(rng.integers(0, 4)):
                moved = np.array(box) + rng.normal(0, rng.choice([0, 2, 8]), 4) * [1, 1, 0.3, 0.3]
                rows.append({"image_id": image["id"], "category_id": category, "bbox": moved.tolist()})
        for _ in range(rng.integers(0, 4)):
            box = [*rng.uniform(0, 150, 2), *rng.uniform(0, 120, 2)]
            rows.append({"image_id": image["id"], "category_id": int(rng.choice(CATEGORIES)), "bbox": box})
    scores = rng.integers(1, 9, len(rows)) / 9 if tied else rng.random(len(rows))
    rng.shuffle(rows)
    results = [{**row, "score": float(score)} for row, score in zip(rows, scores, strict=True)]
    categories = [{"id": i, "name": f"c{i}"} for i in CATEGORIES]
    return {"images": images, "annotations": annotations, "categories": categories}, Detections.from_results(results)


def repeat_images(
    truth: dict[str, Any], detections: Detections, counts: list[int]
) -> tuple[dict[str, Any], Detections]:
    """Return a dataset with each image, in order of ids, as often as counted."""
    images, annotations, parts = [], [], []
    for source, count in zip(sorted(image["id"] for image in truth["images"]), counts, strict=True):
        for _ in range(count):
            image_id = len(images)
            images.append({"id": image_id, "height": 300, "width": 300})
            for annotation in truth["annotations"]:
                if annotation["image_id"] == source:
                    annotations.append({**annotation, "id": len(annotations) + 1, "image_id": image_id})
            part = detections[detections.image_ids == source]
            parts.append(Detections(np.full(len(part), image_id), part.category_ids, part.boxes_xywh, part.scores))
    return {**truth, "images": images, "annotations": annotations}, Detections.concatenate(parts)


def evaluate_with_coco(truth: dict[str, Any], detections: Detections, max_dets: int = 100) -> COCOeval:
    """Return the reference's evaluation, accumulated."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco, empty = COCO(), COCO()
        coco.dataset = {"info": {}, **truth}
        coco.createIndex()
        empty.dataset = {**truth, "annotations": []}
        empty.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(detections.to_results()) if len(detections) else empty, "bbox")
        evaluation.params.maxDets = [1, min(10, max_dets), max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation
