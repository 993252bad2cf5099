"""Random ground truth and detections with everything that evaluations get wrong."""

from typing import Any

import numpy as np

IMAGE_IDS = (-7, 0, 3, 2**53 + 1, 2**62)  # a float array does not hold the last two
CATEGORY_IDS = (0, 5, 90)


def make_set(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random boxes with id 0, crowds, empty images, empty classes, duplicates, ties, odd areas and boxes without area.

    The ids are in no order, and one image has more detections of a class than 100.
    """
    rng = np.random.default_rng(seed)
    images = [{"id": i, "height": 300, "width": 300} for i in rng.permutation(IMAGE_IDS).tolist()]
    categories = [{"id": i, "name": f"c{i}"} for i in rng.permutation(CATEGORY_IDS).tolist()]
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in images[:-1]:
        for _ in range(rng.integers(0, 7)):
            box = [*rng.uniform(0, 150, 2).round(1).tolist(), *rng.choice([0.0, 10, 32, 50, 96, 120], 2).tolist()]
            annotation = {"id": len(annotations), "image_id": image["id"], "category_id": int(rng.choice([0, 5]))}
            area = float(rng.choice([box[2] * box[3], 0, 1023.5, 1024, 9216]))
            annotations.append({**annotation, "bbox": box, "area": area, "iscrowd": int(rng.random() < 0.25)})
            for _ in range(rng.integers(0, 4)):
                moved = np.array(box) + rng.normal(0, 5, 4) * rng.choice([0, 1])  # widths below 0, too
                found = {"image_id": image["id"], "category_id": int(rng.choice(CATEGORY_IDS))}
                detections.append({**found, "bbox": moved.tolist(), "score": float(rng.integers(0, 5)) / 4})
    for _ in range(130 * int(rng.random() < 0.3)):
        box = [*rng.uniform(0, 200, 2).tolist(), 40.0, 40.0]
        detections.append({"image_id": 0, "category_id": 5, "bbox": box, "score": float(rng.integers(0, 9)) / 8})
    order = rng.permutation(len(detections)).tolist()
    truth = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    return truth, [detections[i] for i in order]
