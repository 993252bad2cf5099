"""Frames and detections as the writers get them."""

from pathlib import Path

import numpy as np
import PIL.Image
import supervision as sv

from rfdetr_hwd.prediction.frame import Frame
from rfdetr_hwd.prediction.sources import Source

CLASS_NAMES = ("cat", "dog/puppy")


def frame(place: str, size: tuple[int, int] = (40, 20)) -> Frame:
    """Return a grey image at a place."""
    return Frame(Source(f"photos/{place}", f"photos/{place}", Path(place), "image"), PIL.Image.new("RGB", size, "grey"))


def found(*rows: tuple[int, float, tuple[float, float, float, float]]) -> sv.Detections:
    """Return detections of (label, score, box xyxy)."""
    labels = np.array([row[0] for row in rows], int)
    detections = sv.Detections(
        xyxy=np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
        confidence=np.array([row[1] for row in rows], np.float32),
        class_id=labels,
    )
    detections.data["class_name"] = np.array([CLASS_NAMES[label] for label in labels], dtype=str)
    return detections


CAT = (0, 0.75, (10.0, 5.0, 30.0, 15.0))
DOG = (1, 0.5, (-1.0, 0.0, 8.5, 20.5))
