"""One name for each error: TIDE's types (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection
Errors", ECCV 2020, section 2.2), at its thresholds IoU 0.5 and 0.1.

| name | TIDE | a false positive that ... |
|---|---|---|
| badly placed | Loc | overlaps an object of its class, with an IoU from 0.1 to 0.5 |
| wrong class | Cls | overlaps an object of another class, with an IoU of at least 0.5 |
| duplicate | Dupe | overlaps an object of its class that a better detection has taken |
| background | Bkg | overlaps no object, up to an IoU of 0.1 |
| both | Both | overlaps an object of another class, with an IoU from 0.1 to 0.5 |
| missed | Miss | an object that is neither found nor the target of a badly placed or wrong-class detection |

A false positive has the first name of this order that fits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.overlaps import BACKGROUND_IOU, FOREGROUND_IOU, Objects, Overlaps
from rfdetr_hwd.evaluation.matching import Matches

KINDS = ("wrong class", "badly placed", "both", "duplicate", "background", "missed")
WRONG_CLASS, BADLY_PLACED, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))


@dataclass(frozen=True)
class Errors:
    """The errors of a run's N detections.

    Attributes:
        kind: Index of each detection's error in `KINDS`, -1 for none: it is correct, ignored or below the threshold.
            Shape (N,).
        target: Row of the object that the detection overlaps most, of those that its name is about; -1: none. Shape
            (N,).
        missed: Rows of the missed objects, in ascending order.
        is_found: Whether each object is found, shape (G,). Objects that are neither found nor missed are targets.
    """

    kind: NDArray[np.int8]
    target: NDArray[np.int64]
    missed: NDArray[np.int64]
    is_found: NDArray[np.bool_]

    def count(self) -> dict[str, int]:
        """Return the number of errors of each kind."""
        counts = np.bincount(self.kind[self.kind >= 0], minlength=len(KINDS))
        counts[MISSED] = len(self.missed)
        return dict(zip(KINDS, counts.tolist(), strict=True))

    def count_by_class(self, matches: Matches, objects: Objects) -> NDArray[np.int64]:
        """Return the number of errors of each kind and class (the detected one, or the missed one), shape (6, C)."""
        num_classes = len(matches.category_ids)
        is_error = self.kind >= 0
        counts = np.zeros((len(KINDS), num_classes), np.int64)
        np.add.at(counts, (self.kind[is_error], matches.category[is_error]), 1)
        counts[MISSED] = np.bincount(objects.category[self.missed], minlength=num_classes)
        return counts


def name_errors(matches: Matches, overlaps: Overlaps, min_score: float = 0.0) -> Errors:
    """Name the errors of all detections from a score on.

    Args:
        matches: Matches of the run.
        overlaps: Their overlaps.
        min_score: Confidence threshold. Detections below it do not exist.
    """
    is_kept = matches.score >= min_score
    is_wrong = ~matches.matched[0, 0] & ~matches.ignored[0, 0] & is_kept
    same_object, same_iou = overlaps.best(overlaps.same_class)
    other_object, other_iou = overlaps.best(~overlaps.same_class)

    # Name each false positive: the first condition that holds.
    conditions = {
        BADLY_PLACED: (same_iou >= BACKGROUND_IOU) & (same_iou < FOREGROUND_IOU),
        WRONG_CLASS: other_iou >= FOREGROUND_IOU,
        DUPLICATE: same_iou >= FOREGROUND_IOU,
        BACKGROUND: other_iou <= BACKGROUND_IOU,
    }
    kind = np.select([~is_wrong, *conditions.values()], [-1, *conditions], default=BOTH).astype(np.int8)
    is_about_other = (kind == WRONG_CLASS) | (kind == BOTH)
    target = np.where(is_about_other, other_object, np.where((kind == -1) | (kind == BACKGROUND), -1, same_object))

    # An object is missed if it is not found, and fixing the class or the place of a detection would not find it.
    is_found, is_reachable = (np.zeros(len(overlaps.objects), bool) for _ in range(2))
    found = overlaps.objects.rows(matches.ground_truth[0, is_kept])
    is_found[found[found >= 0]] = True
    is_reachable[target[(kind == WRONG_CLASS) | (kind == BADLY_PLACED)]] = True
    return Errors(kind, target, np.flatnonzero(~is_found & ~is_reachable), is_found)
