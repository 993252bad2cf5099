"""Pictures of predictions at each evaluation, for trackers that show them."""

import logging

import numpy as np
import PIL.Image
import supervision as sv

from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.report.lettering import drawable_names
from rfdetr_hwd.report.pictures import draw_cell
from rfdetr_hwd.training.trackers import Pictures, Tracker, Values

_NUM_PICTURES = 4
_SIZE = 480  # pixels of the larger side
_THRESHOLD = 0.3  # of a model whose best one is not known yet

logger = logging.getLogger(__name__)


class Pictured:
    """Passes values on, and after each evaluation pictures of the same few validation images.

    Args:
        tracker: Receives them.
        evaluation: Has the detections of the evaluation.
    """

    def __init__(self, tracker: Tracker, evaluation: Evaluation) -> None:
        self._tracker, self._evaluation, self._is_reported = tracker, evaluation, False

    def log(self, step: int, values: Values) -> None:
        """Pass the values on, and pictures if they are those of an evaluation."""
        self._tracker.log(step, values)
        if "loss" in values:
            return
        try:
            pictures = draw_predictions(self._evaluation, values)
        except Exception as error:  # an image may be unreadable; the run does not need the pictures
            if not self._is_reported:
                logger.warning("no pictures for the trackers: %s", " ".join(str(error).split())[:300])
            self._is_reported = True
            return
        self._tracker.show(step, pictures)

    def show(self, step: int, pictures: Pictures) -> None:
        """Pass pictures on."""
        self._tracker.show(step, pictures)

    def close(self) -> None:
        """Close the tracker."""
        self._tracker.close()


def draw_predictions(evaluation: Evaluation, values: Values) -> dict[str, PIL.Image.Image]:
    """Return pictures of a few validation images with the detections of the weights with the higher AP.

    Args:
        evaluation: Has just measured them.
        values: Its metrics, as `ema/AP` and `ema/threshold`, the confidence threshold of the best F1.
    """
    if not evaluation.found:
        return {}
    kind = max(evaluation.found, key=lambda kind: values.get(f"{kind}/AP") or 0.0)
    found, data = evaluation.found[kind], evaluation.loader.dataset.data
    threshold = values.get(f"{kind}/threshold")
    kept = found[found.scores >= (_THRESHOLD if threshold is None else threshold)]
    label_of = {category: label for label, category in enumerate(data.category_ids)}
    names, pictures = drawable_names(data.class_names), {}
    rows = np.unique(np.linspace(0, len(data) - 1, min(_NUM_PICTURES, len(data))).round().astype(int))
    for row in rows.tolist():
        here = kept[kept.image_ids == data.image_ids[row]]
        corners = np.concatenate([here.boxes_xywh[:, :2], here.boxes_xywh[:, :2] + here.boxes_xywh[:, 2:]], axis=1)
        labels = np.array([label_of[category] for category in here.category_ids.tolist()], int)
        detections = sv.Detections(xyxy=corners, confidence=here.scores, class_id=labels)
        pictures[f"predictions/{row}"] = draw_cell(data.read(row), detections, names, _SIZE)
    return pictures
