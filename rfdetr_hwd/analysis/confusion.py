"""Which class is taken for which, with background."""

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.overlaps import FOREGROUND_IOU, Overlaps
from rfdetr_hwd.evaluation.matching import Matches


def confusion_matrix(matches: Matches, overlaps: Overlaps, threshold: float) -> NDArray[np.int64]:
    """Count pairs of true and detected class.

    Detections and objects of an image are paired one to one, whatever their classes: the pair with the highest IoU
    first, down to IoU 0.5. Of equal IoUs a pair of one class comes first, then the higher score, then the order of
    `Overlaps`. Detections of crowds, which COCO ignores, count only where they are paired.

    Args:
        matches: Matches of the run.
        overlaps: Their overlaps.
        threshold: Lowest score of a detection that counts.

    Returns:
        Shape (C + 1, C + 1). Rows are true classes, columns detected classes. The last row holds detections without an
        object, the last column objects without a detection.
    """
    objects, num_classes = overlaps.objects, len(matches.category_ids)
    detection, found = _pair(matches, overlaps, threshold)
    is_alone = (matches.score >= threshold) & ~matches.ignored[0, 0]
    is_alone[detection] = False
    is_missed = np.ones(len(objects), bool)
    is_missed[found] = False

    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    np.add.at(counts, (objects.category[found], matches.category[detection]), 1)
    counts[-1, :-1] = np.bincount(matches.category[is_alone], minlength=num_classes)
    counts[:-1, -1] = np.bincount(objects.category[is_missed], minlength=num_classes)
    return counts


def _pair(matches: Matches, overlaps: Overlaps, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return detection and object of each pair.

    A pair that is the first of its detection and of its object is taken by the greedy order, whatever else is taken.
    So all such pairs are taken at once, round by round.
    """
    pairs = np.flatnonzero((overlaps.iou >= FOREGROUND_IOU) & (matches.score[overlaps.detection] >= threshold))
    detection, found = overlaps.detection[pairs], overlaps.object[pairs]
    order = np.lexsort((-matches.score[detection], ~overlaps.same_class[pairs], -overlaps.iou[pairs]))
    detection, found = detection[order], found[order]
    parts = []
    while len(detection):
        is_first = np.zeros((2, len(detection)), bool)
        for row, values in enumerate((detection, found)):
            is_first[row, np.unique(values, return_index=True)[1]] = True
        taken = is_first.all(axis=0)
        parts.append((detection[taken], found[taken]))
        is_left = ~np.isin(detection, parts[-1][0]) & ~np.isin(found, parts[-1][1])
        detection, found = detection[is_left], found[is_left]
    nothing = np.zeros(0, np.int64)
    return np.concatenate([nothing, *(d for d, _ in parts)]), np.concatenate([nothing, *(f for _, f in parts)])
