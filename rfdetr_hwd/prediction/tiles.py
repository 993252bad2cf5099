"""Find small objects in large images: overlapping tiles at full size, whose detections are merged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import supervision as sv
from numpy.typing import NDArray

from rfdetr_hwd.detector import Detector, Threshold
from rfdetr_hwd.errors import ConfigError

_BATCH = 8
"""Tiles of one forward pass."""
_MERGED = 0.5
"""Intersection over the smaller box from which two boxes of a class count as one: a box cut at the border of its tile
lies in the whole one, and has too little IoU with it."""


class Tiles:
    """Detects in overlapping square tiles. The detections of all are merged by non-maximum suppression per class.

    Args:
        detector: The model.
        size: Width and height of a tile in pixels.
        overlap: Of neighbours, as a fraction of the size, in [0, 1).

    Raises:
        ConfigError: The tiles are smaller than the model's input, or do not advance.
    """

    def __init__(self, detector: Detector, size: int, overlap: float) -> None:
        if size < detector.resolution:
            raise ConfigError(
                f"--tiles {size} is smaller than the model's input of {detector.resolution} pixels: give at least "
                f"{detector.resolution}"
            )
        if not 0 <= overlap < 1:
            raise ConfigError(f"--overlap {overlap} is not a fraction of the tile: give at least 0 and less than 1")
        self.detector, self.size, self.overlap = detector, size, overlap

    def predict(self, images: Sequence[PIL.Image.Image], threshold: Threshold = None) -> list[sv.Detections]:
        """Return the detections of each image, like those of `Detector.predict`."""

        def detect(tiles: list[NDArray[np.uint8]]) -> list[sv.Detections]:
            return self.detector.predict(tiles, threshold)

        slicer = sv.InferenceSlicer(
            detect,
            slice_wh=self.size,
            # Without any overlap the last tiles would be narrow, and stretched
            overlap_wh=min(max(1, round(self.size * self.overlap)), self.size - 1),
            iou_threshold=_MERGED,
            overlap_metric="IOS",
            batch_size=_BATCH,
        )
        return [self._sorted(slicer(np.asarray(image))) for image in images]

    def describe(self) -> dict[str, Any]:
        """Return what is evaluated, for the record of its metrics: the detector, how tiles are made and merged."""
        return {
            **self.detector.describe(),
            "tiles": {"size": self.size, "overlap": self.overlap, "merge": f"NMS per class, IoS {_MERGED}"},
        }

    def _sorted(self, found: sv.Detections) -> sv.Detections:
        order = np.argsort(-found.confidence, kind="stable")
        names = np.array(self.detector.class_names, dtype=str)
        labels = found.class_id[order].astype(int)
        # Without detections, supervision forgets the names
        return sv.Detections(
            found.xyxy[order], None, found.confidence[order], labels, data={"class_name": names[labels]}
        )
