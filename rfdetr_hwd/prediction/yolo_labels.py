"""Write detections as YOLO label files, to correct them in a labelling tool or to train on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import supervision as sv

from rfdetr_hwd.files import replace_text
from rfdetr_hwd.prediction.frame import Frame


class YoloWriter:
    """Writes `labels/IMAGE.txt`: a line `label cx cy w h` for each detection, relative to the image; and `classes.txt`.

    Args:
        out: Directory above `labels`.
        class_names: Class names in label order.
    """

    def __init__(self, out: Path, class_names: Sequence[str]) -> None:
        self._out = out
        self._written: set[Path] = set()
        replace_text(out / "classes.txt", "".join(f"{' '.join(name.split())}\n" for name in class_names))

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write the labels of an image; an empty file if nothing was found.

        Raises:
            FileExistsError: Another image has the same name but for its suffix, and so the same label file.
        """
        path = self._out / "labels" / frame.place.with_suffix(".txt")
        if path in self._written:
            raise FileExistsError(f"another image has the YOLO labels {path}")
        if frame.moment is None:  # frames are numbered, and may be too many to remember
            self._written.add(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        size = np.array([frame.image.width, frame.image.height])
        corners = detections.xyxy.reshape(-1, 2, 2) / size
        boxes_cxcywh = np.concatenate([corners.mean(axis=1), corners[:, 1] - corners[:, 0]], axis=1)
        rows = zip(detections.class_id, boxes_cxcywh, strict=True)
        path.write_text("".join(f"{label} {' '.join(f'{value:.6f}' for value in box)}\n" for label, box in rows))

    def close(self) -> dict[str, Path]:
        """Name the directory."""
        return {"labels": self._out / "labels"}
