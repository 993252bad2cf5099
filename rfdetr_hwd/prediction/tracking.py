"""Follow objects from frame to frame of a video with ByteTrack, of the package trackers."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import supervision as sv
from numpy.typing import NDArray

from rfdetr_hwd.errors import UserError
from rfdetr_hwd.prediction.frame import Frame

CANDIDATE = 0.1
"""Lowest score of a detection that may continue a track, as in ByteTrack. It starts none, and is not shown alone."""
UNTRACKED = -1
"""Identity of a detection without a track."""


class TrackingError(UserError):
    """The package for tracking is missing."""


class Tracking:
    """Gives the detections of each frame the identities of their tracks. Each video has its own, from 0.

    A detection above the threshold starts a track, whose identity it has from its second frame on. One below the
    threshold continues a track whose place it has. Classes are not compared.

    Args:
        thresholds: Confidence threshold of each class by name.
        class_names: Class names in label order.

    Raises:
        TrackingError: The package trackers is missing.
    """

    def __init__(self, thresholds: Mapping[str, float], class_names: Sequence[str]) -> None:
        self._thresholds = np.array([thresholds[name] for name in class_names])
        self._package = _import_trackers()
        self._tracker: Any = None
        self._video = ""

    def update(self, frame: Frame, candidates: sv.Detections) -> sv.Detections:
        """Return the detections that are above the threshold or continue a track, by descending confidence.

        Args:
            frame: The next frame of its video, or an image, which has no tracks.
            candidates: Its detections, also those below the threshold.
        """
        is_certain = candidates.confidence >= self._thresholds[candidates.class_id]
        identities = np.full(len(candidates), UNTRACKED)
        if frame.moment is not None:
            if frame.source.address != self._video or frame.moment.index == 0:
                self._begin(frame)
            identities = self._follow(candidates.xyxy, is_certain)
        kept: sv.Detections = candidates[is_certain | (identities != UNTRACKED)]
        kept.tracker_id = identities[is_certain | (identities != UNTRACKED)]
        return kept

    def _begin(self, frame: Frame) -> None:
        assert frame.moment is not None
        self._video = frame.source.address
        # Scores below are 1 and 0: each class may have a threshold of its own
        self._tracker = self._package.ByteTrackTracker(
            frame_rate=float(frame.moment.rate),
            track_activation_threshold=0.5,
            high_conf_det_threshold=0.5,
            minimum_consecutive_frames=1,
        )

    def _follow(self, boxes_xyxy: NDArray[np.float32], is_certain: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the identity of each box."""
        rows = np.arange(len(boxes_xyxy))
        scores = is_certain.astype(np.float32)
        found = self._tracker.update(sv.Detections(boxes_xyxy, confidence=scores, data={"row": rows}))
        identities = np.full(len(rows), UNTRACKED)
        if len(found):
            identities[found.data["row"]] = found.tracker_id
        return identities


def candidate_thresholds(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Return the thresholds of what may continue a track."""
    return {name: min(CANDIDATE, threshold) for name, threshold in thresholds.items()}


def _import_trackers() -> Any:
    try:
        return importlib.import_module("trackers")
    except ImportError:
        raise TrackingError("--track needs the package trackers: pip install 'rfdetr-hwd[track]'") from None
