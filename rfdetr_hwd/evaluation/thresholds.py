"""Precision, recall and F1 along the confidence threshold, and the threshold with the best F1."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.evaluation.matching import Matches

FLAT = 0.01
"""F1 within this of the best counts as flat."""


@dataclass(frozen=True)
class ThresholdCurve:
    """Counts of the detections from each score on, at IoU 0.5.

    Attributes:
        scores: The K different scores in descending order. A threshold keeps a detection with an equal score.
        num_true: True positives with this score or a higher one, shape (K,).
        num_kept: True and false positives, shape (K,).
        num_objects: Number of objects.
    """

    scores: NDArray[np.float64]
    num_true: NDArray[np.int64]
    num_kept: NDArray[np.int64]
    num_objects: int

    @property
    def precision(self) -> NDArray[np.float64]:
        """Precision at each score, shape (K,)."""
        return self.num_true / self.num_kept

    @property
    def recall(self) -> NDArray[np.float64]:
        """Recall at each score, shape (K,). NaN: no objects."""
        return self.num_true / self.num_objects if self.num_objects else np.full(len(self.scores), np.nan)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall at each score, shape (K,). 0 without objects."""
        return 2 * self.num_true / (self.num_kept + self.num_objects)

    def at(
        self, thresholds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return precision, recall and F1 at thresholds of shape (T,). Precision without detections is NaN."""
        row = np.searchsorted(-self.scores, -np.asarray(thresholds), side="right")  # number of scores kept
        nothing_kept = 0.0 if self.num_objects else np.nan
        columns = ((np.nan, self.precision), (nothing_kept, self.recall), (0.0, self.f1))
        precision, recall, f1 = (np.append(above, values)[row] for above, values in columns)
        return precision, recall, f1


def threshold_curve(matches: Matches, category: int | None = None) -> ThresholdCurve:
    """Count the outcomes of the detections at IoU 0.5.

    Args:
        matches: Matches of one run.
        category: Index of a class; `None`: the detections and objects of all classes together (micro average).
    """
    of_class = slice(None) if category is None else slice(*np.searchsorted(matches.category, [category, category + 1]))
    counted = ~matches.ignored[0, 0, of_class]
    score, is_true = matches.score[of_class][counted], matches.matched[0, 0, of_class][counted]
    if category is None:
        order = np.argsort(-score)
        score, is_true = score[order], is_true[order]
    last = np.flatnonzero(np.diff(score, append=-np.inf))  # of each different score
    objects = matches.num_ground_truth[0] if category is None else matches.num_ground_truth[0, category]
    return ThresholdCurve(score[last], np.cumsum(is_true, dtype=np.int64)[last], last + 1, int(objects.sum()))


@dataclass(frozen=True)
class BestThreshold:
    """The confidence threshold with the highest F1 at IoU 0.5, and its precision and recall.

    Attributes:
        threshold: Middle of the range of thresholds that reach this F1; of several ranges the widest.
        f1: F1 there, above 0.
        precision: Precision there.
        recall: Recall there.
        flat_low: Around the threshold, F1 stays within 0.01 of the best above this one ...
        flat_high: ... and up to this one.
    """

    threshold: float
    f1: float
    precision: float
    recall: float
    flat_low: float
    flat_high: float


def best_threshold(curve: ThresholdCurve) -> BestThreshold | None:
    """Return the threshold with the highest F1. `None`: there are no objects, or no detection is true."""
    f1 = curve.f1
    if not curve.num_objects or not curve.num_true.any():
        return None
    # Thresholds above the next lower score, up to a row's score, keep the same detections.
    below = np.append(curve.scores[1:], min(0.0, curve.scores[-1]))
    first, last = _runs(f1 >= f1.max() - 1e-12)
    widest = int(np.argmax(curve.scores[first] - below[last]))
    row = int(first[widest])
    high, low = float(curve.scores[row]), float(below[last[widest]])
    flat_first, flat_last = _runs(f1 >= f1.max() - FLAT)
    around = int(np.searchsorted(flat_first, row, side="right")) - 1
    return BestThreshold(
        threshold=(low + high) / 2,
        f1=float(f1[row]),
        precision=float(curve.precision[row]),
        recall=float(curve.recall[row]),
        flat_low=float(below[flat_last[around]]),
        flat_high=float(curve.scores[flat_first[around]]),
    )


@dataclass(frozen=True)
class Thresholds:
    """The best threshold of all classes together, and of each class, C. `None`: not defined."""

    overall: BestThreshold | None
    per_class: tuple[BestThreshold | None, ...]


def best_thresholds(matches: Matches) -> Thresholds:
    """Return the best thresholds of a run."""
    classes = range(len(matches.category_ids))
    return Thresholds(
        overall=best_threshold(threshold_curve(matches)),
        per_class=tuple(best_threshold(threshold_curve(matches, category)) for category in classes),
    )


def _runs(is_in: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last row of each run of true values."""
    edges = np.diff(np.concatenate([[False], is_in, [False]]).astype(np.int8))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
