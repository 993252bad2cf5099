"""AP, AP50 and AR of each class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.curves import precision_at_recall
from rfdetr_hwd.evaluation.matching import IOU_THRESHOLDS, Matches

_MAX_DETS = 100


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class, from 0 to 1. `None`: it has no object.

    Attributes:
        name: Name of the class.
        num_objects: Objects, without crowds.
        num_images: Images with such an object.
        ap: AP over IoU 0.50:0.95.
        ap50: AP at IoU 0.5.
        ar: Recall at 100 detections of the class an image, the mean over IoU 0.50:0.95.
    """

    name: str
    num_objects: int
    num_images: int
    ap: float | None
    ap50: float | None
    ar: float | None


def metrics_by_class(matches: Matches) -> list[ClassMetrics]:
    """Return the metrics of each class, in the order of `matches`."""
    num_objects = matches.num_ground_truth[0]
    ap, ap50 = (precision_at_recall(matches, iou).mean(axis=1) for iou in (None, 0.5))
    ar = _recall(matches)
    return [
        ClassMetrics(
            name=name,
            num_objects=int(num_objects[row].sum()),
            num_images=int((num_objects[row] > 0).sum()),
            ap=_known(ap[row]),
            ap50=_known(ap50[row]),
            ar=_known(ar[row]),
        )
        for row, name in enumerate(matches.class_names)
    ]


def _recall(matches: Matches) -> NDArray[np.float64]:
    """Return the recall of each class, shape (C,). NaN: no objects."""
    is_true = matches.matched[0] & ~matches.ignored[0] & (matches.rank < _MAX_DETS)
    num_found = np.bincount(matches.category, is_true.sum(axis=0), len(matches.category_ids))
    with np.errstate(invalid="ignore"):
        recall: NDArray[np.float64] = num_found / (len(IOU_THRESHOLDS) * matches.num_ground_truth[0].sum(axis=1))
    return recall


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
