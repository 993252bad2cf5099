"""COCO's interpolated precision of detections whose outcomes are given."""

import numpy as np
from numpy.typing import NDArray

RECALL_LEVELS = np.linspace(0, 1, 101)


def precision_by_class(
    category: NDArray[np.integer],
    is_true: NDArray[np.bool_],
    is_counted: NDArray[np.bool_],
    num_objects: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Return the precision at each recall level: the highest at that recall or above, 0 where it is not reached.

    Args:
        category: Class index of each detection, shape (N,). Detections are ordered by class, then descending score.
        is_true: Whether each is a true positive, shape (T, N).
        is_counted: Whether each is a true or a false positive, shape (T, N).
        num_objects: Number of objects of each class, shape (C,).

    Returns:
        Shape (C, T, 101), from 0 to 1. NaN: a class without objects. Means over the last axis are average precisions.
    """
    result = np.full((len(num_objects), len(is_true), len(RECALL_LEVELS)), np.nan)
    bounds = np.searchsorted(category, np.arange(len(num_objects) + 1))
    for row in np.flatnonzero(num_objects):
        of_class = slice(bounds[row], bounds[row + 1])
        for lane in range(len(is_true)):
            result[row, lane] = _interpolate(is_true[lane, of_class], is_counted[lane, of_class], num_objects[row])
    return result


def _interpolate(is_true: NDArray[np.bool_], is_counted: NDArray[np.bool_], num_objects: int) -> NDArray[np.float64]:
    """Return the precision at each recall level, shape (101,). Its envelope needs true positives only."""
    true_rows = np.flatnonzero(is_true)
    num_true = np.arange(1, len(true_rows) + 1)
    # The spacing is COCO's guard against a division by zero. It makes the values equal to the last bit.
    precision = num_true / (np.cumsum(is_counted)[true_rows] + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(num_true / num_objects, RECALL_LEVELS)
    return np.append(envelope, 0.0)[reached]
