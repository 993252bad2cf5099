"""Precision along recall, for each class."""

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.average_precision import precision_by_class
from rfdetr_hwd.evaluation.matching import IOU_THRESHOLDS, Matches


def precision_at_recall(matches: Matches, iou: float | None = 0.5) -> NDArray[np.float64]:
    """Return COCO's interpolated precision of each class at recall 0, 0.01, ..., 1.

    Args:
        matches: Matches of one run.
        iou: An IoU threshold of COCO; `None`: the mean over IoU 0.50:0.95.

    Returns:
        Shape (C, 101), from 0 to 1. NaN: a class without ground truth. The mean over all is AP50 or AP.
    """
    lanes = slice(None) if iou is None else np.flatnonzero(np.isclose(IOU_THRESHOLDS, iou))
    ignored = matches.ignored[0, lanes]
    is_true = matches.matched[0, lanes] & ~ignored
    curves = precision_by_class(matches.category, is_true, ~ignored, matches.num_ground_truth[0].sum(axis=1))
    mean: NDArray[np.float64] = curves.mean(axis=1)
    return mean
