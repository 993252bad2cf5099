"""Write what is inside each box as a picture of its own, in a directory for each class."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import supervision as sv

from rfdetr_hwd.prediction.frame import Frame

_QUALITY = 95  # of the JPEG files


class CropWriter:
    """Writes `crops/LABEL-CLASS/IMAGE-NUMBER.jpg`, numbered from 1 by descending confidence.

    Args:
        out: Directory above `crops`.
        class_names: Class names in label order.
    """

    def __init__(self, out: Path, class_names: Sequence[str]) -> None:
        self._out = out / "crops"
        # A name may hold anything: the label keeps directories of similar names apart
        safe = [re.sub(r"[^\w-]+", "_", name)[:60] for name in class_names]
        self._directories = [f"{label}-{name}" for label, name in enumerate(safe)]

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write the crops of an image. A box without a pixel has none."""
        place, image = frame.place, frame.image
        for number, (box, label) in enumerate(zip(detections.xyxy, detections.class_id, strict=True), 1):
            left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
            right, bottom = min(image.width, math.ceil(box[2])), min(image.height, math.ceil(box[3]))
            if left >= right or top >= bottom:
                continue
            crop = self._out / self._directories[label] / place.with_name(f"{place.name}-{number}.jpg")
            crop.parent.mkdir(parents=True, exist_ok=True)
            image.crop((left, top, right, bottom)).save(crop, quality=_QUALITY)

    def close(self) -> dict[str, Path]:
        """Name the directory."""
        return {"crops": self._out}
