"""COCO's metrics of weighted images, computed from matches: a weight is the number of times an image counts.

A resample of the images changes neither the matches nor the order of scores. It changes cumulative sums alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rfdetr_hwd.evaluation.matching import IOU_THRESHOLDS, Matches

_ALL = list(range(len(IOU_THRESHOLDS)))
_PRECISION = {
    "AP": (0, _ALL),
    "AP50": (0, [0]),
    "AP75": (0, [5]),
    "AP_small": (1, _ALL),
    "AP_medium": (2, _ALL),
    "AP_large": (3, _ALL),
}
"""Area range and IoU thresholds of each metric of precision."""
_RECALL = {"AR_1": (0, 1), "AR_10": (0, 10), "AR_100": (0, 100), "AR_small": (1, 100), "AR_medium": (2, 100)}
_RECALL["AR_large"] = (3, 100)
"""Area range and number of detections of each metric of recall."""
METRICS = (*_PRECISION, *_RECALL)
"""The twelve metrics of COCO, in the order of its summary."""

_RECALL_LEVELS = np.linspace(0, 1, 101)
_BLOCK = 2**21
"""Largest number of elements of a temporary array, unless one resample has more: 16 MB of float64."""


def coco_metrics(
    matches: Matches, weights: NDArray[np.float64] | None = None, metrics: Sequence[str] | None = None
) -> dict[str, float | None]:
    """Return the metrics by name.

    Args:
        matches: Matches of one run.
        weights: Number of times each image counts, shape (I,), at least 0; `None`: once.
        metrics: Names, of `METRICS` or `AP/<class name>`; `None`: all of them.

    Returns:
        Metrics from 0 to 1. A metric without ground truth is `None`.
    """
    weights = np.ones(len(matches.image_ids)) if weights is None else weights
    values = resampled_metrics(matches, weights[None], metrics)
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in values.items()}


def resampled_metrics(
    matches: Matches, weights: NDArray[np.generic], metrics: Sequence[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the metrics of R resamples of the images.

    A class without ground truth in a resample does not enter the mean of that resample, as in COCO.

    Args:
        matches: Matches of one run.
        weights: Number of times each image counts in each resample, shape (R, I), at least 0.
        metrics: Names, of `METRICS` or `AP/<class name>`; `None`: all of them.

    Returns:
        Values from 0 to 1 of shape (R,) by name. NaN stands for a metric without ground truth.
    """
    classes = {f"AP/{name}": row for row, name in enumerate(matches.class_names)}
    names = [*METRICS, *classes] if metrics is None else metrics
    by_image = np.ascontiguousarray(weights.T, np.float64)

    # The average precisions of a class serve several metrics: AP holds AP50, AP75 and the AP of each class.
    needed: dict[int, set[int]] = {}
    for name in names:
        if name not in _RECALL:
            area, thresholds = _PRECISION["AP" if name in classes else name]
            needed[area] = needed.get(area, set()).union(thresholds)
    precision = {area: _average_precision(matches, by_image, area, sorted(needed[area])) for area in needed}

    results = {}
    for name in names:
        if name in _RECALL:
            results[name] = _mean_of_known(_recall(matches, by_image, *_RECALL[name]))
            continue
        area, thresholds = _PRECISION["AP" if name in classes else name]
        lanes = [sorted(needed[area]).index(threshold) for threshold in thresholds]
        values = precision[area][:, lanes]
        results[name] = _mean_of_known(values[classes[name]] if name in classes else values)
    return results


def _average_precision(
    matches: Matches, by_image: NDArray[np.float64], area: int, thresholds: Sequence[int]
) -> NDArray[np.float64]:
    """Return the AP of each class, threshold and resample, shape (C, T, R). NaN: no ground truth."""
    num_resamples = by_image.shape[1]
    result = np.empty((len(matches.category_ids), len(thresholds), num_resamples))
    bounds = np.searchsorted(matches.category, np.arange(len(matches.category_ids) + 1))
    for category, (begin, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        curve = _read_curve(matches, area, list(thresholds), category, slice(begin, end))
        step = max(1, _BLOCK // max(1, len(curve.image)))
        for start in range(0, num_resamples, step):
            block = slice(start, start + step)
            result[category, :, block] = _areas_under(curve, np.ascontiguousarray(by_image[:, block]))
    return result


@dataclass(frozen=True)
class _Curve:
    """What the precision of one class and area range needs: K detections out of many.

    Between true positives precision falls, and its envelope reads true positives only. The other detections count in
    the sum of the next true positive.
    """

    image: NDArray[np.int32]  # (K,)
    counted: Any  # sparse (K, I): detections of each image, after the previous row and up to this one
    is_true: NDArray[np.bool_]  # (T, K)
    is_counted_here: NDArray[np.bool_]  # (T, K): not ignored at this threshold, ignored at another
    num_ground_truth: NDArray[np.int32]  # (I,)


def _read_curve(matches: Matches, area: int, thresholds: list[int], category: int, of_class: slice) -> _Curve:
    """Return the rows of one class: detections that are true, or ignored at some of the thresholds only."""
    ignored = matches.ignored[area, thresholds, of_class]
    is_true = matches.matched[area, thresholds, of_class] & ~ignored
    is_mixed = ignored.any(axis=0) & ~ignored.all(axis=0)
    rows = np.flatnonzero(is_true.any(axis=0) | is_mixed)
    always = np.flatnonzero(~ignored.any(axis=0))
    row_after = np.searchsorted(rows, always)
    always, row_after = always[row_after < len(rows)], row_after[row_after < len(rows)]
    image = matches.image[of_class]
    shape = (len(rows), len(matches.image_ids))
    return _Curve(
        image=image[rows],
        counted=sparse.csr_matrix((np.ones(len(always)), (row_after, image[always])), shape=shape),
        is_true=is_true[:, rows],
        is_counted_here=(is_mixed & ~ignored)[:, rows],
        num_ground_truth=matches.num_ground_truth[area, category],
    )


def _areas_under(curve: _Curve, by_image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the AP of one class for each threshold and resample, shape (T, R). NaN: no ground truth."""
    num_ground_truth = curve.num_ground_truth @ by_image
    num_known = np.where(num_ground_truth > 0, num_ground_truth, 1)
    counted = _accumulate(np.add, curve.counted @ by_image)
    result = np.zeros((len(curve.is_true), by_image.shape[1]))
    for lane, (is_true, is_counted_here) in enumerate(zip(curve.is_true, curve.is_counted_here, strict=True)):
        rows = np.flatnonzero(is_true)
        if not len(rows):
            continue
        num_true = _accumulate(np.add, by_image[curve.image[rows]])
        num_counted = counted[rows]
        if is_counted_here.any():
            num_counted += _accumulate(np.add, by_image[curve.image] * is_counted_here[:, None])[rows]
        precision = num_true / (num_counted + np.spacing(1))
        envelope = _accumulate(np.maximum, precision[::-1])[::-1]
        num_levels = _count_levels(num_true / num_known)
        # Recall that is reached for the first time at a row reads the envelope there.
        num_levels[1:] -= num_levels[:-1].copy()
        result[lane] = np.einsum("kr,kr->r", envelope, num_levels) / len(_RECALL_LEVELS)
    result[:, num_ground_truth == 0] = np.nan
    return result


def _count_levels(recall: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many of COCO's 101 recall levels are reached, compared as COCO does, to the last bit."""
    nearest = np.rint(recall * 100)
    reached: NDArray[np.bool_] = recall >= _RECALL_LEVELS.take(nearest.astype(np.intp))
    nearest += reached
    return nearest


def _accumulate(function: np.ufunc, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the running result over rows. Long rows are taken one by one, which NumPy does three times as fast."""
    if values.shape[1] < 64:
        running: NDArray[np.float64] = function.accumulate(values, axis=0)
        return running
    rows = list(values)
    for before, row in pairwise(rows):
        function(before, row, out=row)
    return values


def _recall(matches: Matches, by_image: NDArray[np.float64], area: int, max_dets: int) -> NDArray[np.float64]:
    """Return the recall of each class, threshold and resample, shape (C, T, R). NaN: no ground truth."""
    num_classes, num_images = len(matches.category_ids), len(matches.image_ids)
    is_true = matches.matched[area] & ~matches.ignored[area] & (matches.rank < max_dets)
    lane, detection = np.nonzero(is_true)
    row = matches.category[detection] * len(IOU_THRESHOLDS) + lane
    shape = (num_classes * len(IOU_THRESHOLDS), num_images)
    found = sparse.csr_matrix((np.ones(len(row)), (row, matches.image[detection])), shape=shape) @ by_image
    num_ground_truth = matches.num_ground_truth[area] @ by_image
    with np.errstate(invalid="ignore"):
        recall: NDArray[np.float64] = found.reshape(num_classes, len(IOU_THRESHOLDS), -1) / num_ground_truth[:, None]
    return recall


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over all but the last axis of the values that are not NaN, shape (R,)."""
    values = values.reshape(-1, values.shape[-1])
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)
    return mean


def num_images_with(matches: Matches, metric: str) -> int:
    """Return the number of images with ground truth of a metric's area range and class."""
    classes = [row for row, name in enumerate(matches.class_names) if metric == f"AP/{name}"]
    area = 0 if classes else {**_PRECISION, **_RECALL}[metric][0]
    num_ground_truth = matches.num_ground_truth[area, classes or slice(None)]
    return int((num_ground_truth > 0).any(axis=0).sum())
