"""Small evaluations with their images, to report on."""

import json
from pathlib import Path

import PIL.Image

from rfdetr_hwd.data.coco.ground_truth import read_annotations
from rfdetr_hwd.report.evaluation_report import ReportInputs
from tests.unit.analysis.scenes import scene

HOSTILE = "<script>alert('1')</script>"
PROTOCOL = {"resolution": 100, "preprocessing": "stretch into a square", "weights": "ema", "step": 12}
GREY = (90, 90, 90)

CAT, DOG, COW = [10, 10, 40, 40], [100, 20, 50, 50], [60, 70, 20, 20]
OBJECTS = [(0, HOSTILE, CAT), (0, "=dog", DOG), (0, "cow", COW), (1, HOSTILE, CAT), (2, "=dog", DOG)]
FOUND = [
    (0, HOSTILE, CAT, 0.9),
    (0, HOSTILE, DOG, 0.8),  # wrong class
    (1, HOSTILE, CAT, 0.9),
    (2, "=dog", DOG, 0.95),
    (2, "=dog", [10, 60, 20, 20], 0.85),  # background
]


def make_inputs(
    folder: Path, objects: list[tuple] = OBJECTS, found: list[tuple] = FOUND, num_images: int = 3
) -> ReportInputs:
    """Write annotations and grey images of 200 x 100 pixels, and return them with detections."""
    truth, detections = scene(objects, found, num_images, (HOSTILE, "=dog", "cow"))
    for image in truth["images"]:
        image["file_name"] = f"{image['id']}{HOSTILE.replace('/', '')}.png"
        PIL.Image.new("RGB", (200, 100), GREY).save(folder / image["file_name"])
    path = folder / "truth.json"
    path.write_text(json.dumps(truth))
    return ReportInputs(read_annotations(path), detections, PROTOCOL)
