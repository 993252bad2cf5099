"""COCO's greedy matching of all images and classes at once.

An image with a class is a pair. The n-th detection of each pair is matched in the n-th round, for all pairs together:
pairs do not depend on each other, and within a pair the detections take turns by score.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20
"""Boxes that are compared at once."""

Result = tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]
"""Matched (A, T, N), ignored (A, T, N) and index of the annotation in the first area range (T, N), changed in place."""


@dataclass(frozen=True)
class Truth:
    """Ground truths, G, ordered by pair.

    Attributes:
        pair: Image index * C + class index, shape (G,).
        index: Index in the dataset's list, shape (G,).
        boxes_xywh: Shape (G, 4).
        is_crowd: Shape (G,).
        ignored: Whether it does not count, by area range, shape (A, G).
    """

    pair: NDArray[np.int64]
    index: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Overlaps of detections with ground truths of their pair, E, ordered by detection, then ascending preference.

    Attributes:
        detection: Shape (E,).
        truth: Shape (E,).
        iou: Shape (E,).
        turn: Number of detections of the pair with candidates before this one, shape (E,).
    """

    detection: NDArray[np.int64]
    truth: NDArray[np.int64]
    iou: NDArray[np.float64]
    turn: NDArray[np.int64]

    def rounds(self) -> "Iterator[Candidates]":
        """Yield the candidates of each turn."""
        order = np.argsort(self.turn, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(self.turn[order])) + 1) if len(order) else ():
            yield Candidates(self.detection[rows], self.truth[rows], self.iou[rows], self.turn[rows])


def find_candidates(
    boxes_xywh: NDArray[np.float64],
    index: NDArray[np.int64],
    pair: NDArray[np.int64],
    by_pair: NDArray[np.int64],
    truth: Truth,
    min_iou: float,
) -> Candidates:
    """Return the overlaps that could be matches.

    Args:
        boxes_xywh: Boxes of all detections that there are.
        index: Which of them are the detections, shape (N,).
        pair: Their pairs, shape (N,).
        by_pair: Their order by pair, then by descending score, shape (N,).
        truth: The ground truths.
        min_iou: Smallest IoU.
    """
    # Compare every detection with the ground truths of its pair, a chunk at a time.
    rows = by_pair[np.isin(pair, truth.pair)[by_pair]]
    first, last = (np.searchsorted(truth.pair, pair[rows], side) for side in ("left", "right"))
    count = last - first
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for chunk in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(np.cumsum(count) // _CHUNK)) + 1):
        place = np.repeat(chunk, count[chunk])
        detection = rows[place]
        nth = np.arange(len(place)) - np.repeat(np.cumsum(count[chunk]) - count[chunk], count[chunk])
        of_truth = np.repeat(first[chunk], count[chunk]) + nth
        iou = _ious(boxes_xywh[index[detection]], truth.boxes_xywh[of_truth], truth.is_crowd[of_truth])
        is_candidate = iou >= min_iou
        parts.append((place[is_candidate], of_truth[is_candidate], iou[is_candidate]))
    place, of_truth, iou = (np.concatenate(column) for column in zip(*parts, strict=True))
    # COCO prefers the higher IoU, and of equal ones the last ground truth.
    order = np.lexsort((iou, place))
    place, of_truth, iou = place[order], of_truth[order], iou[order]
    # Number the detections with candidates within their pair.
    found, at = np.unique(place, return_inverse=True)
    pair_found = pair[rows[found]]
    turn = np.arange(len(found)) - np.searchsorted(pair_found, pair_found)
    return Candidates(rows[place], of_truth, iou, turn[at])


def _ious(
    boxes_xywh: NDArray[np.float64], truths_xywh: NDArray[np.float64], is_crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the IoU of each two boxes in the operations and the order of pycocotools: to the bit the same, shape (E,).

    The union with a crowd is the detection.
    """
    (x, y, width, height), (of_x, of_y, of_width, of_height) = boxes_xywh.T, truths_xywh.T
    shared_width = np.minimum(width + x, of_width + of_x) - np.maximum(x, of_x)
    shared_height = np.minimum(height + y, of_height + of_y) - np.maximum(y, of_y)
    shared, area = shared_width * shared_height, width * height
    union = np.where(is_crowd, area, area + of_width * of_height - shared)
    is_shared = (shared_width > 0) & (shared_height > 0)
    ious = np.zeros(len(area))
    np.divide(shared, union, out=ious, where=is_shared)
    return ious


def match_all(candidates: Candidates, truth: Truth, thresholds: NDArray[np.float64], result: Result) -> None:
    """Match greedily, all pairs, area ranges and IoU thresholds at once.

    COCO visits the ground truths that count first, then the ignored ones. A crowd can be matched again.

    Args:
        candidates: From `find_candidates`.
        truth: The ground truths.
        thresholds: IoU thresholds, shape (T,).
        result: What is changed, for the detections that are matched.
    """
    matched, ignored, chosen = result
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]
    free = np.ones((len(truth.ignored), len(thresholds), len(truth.pair)), bool)
    areas = np.arange(len(truth.ignored))[:, None, None]
    for part in candidates.rounds():
        # Of the candidates of each detection, find the last one that counts, or else the last one.
        size = len(part.truth)
        is_free = free[..., part.truth] & (part.iou >= least)
        preference = np.arange(size) + size * ~truth.ignored[:, None, part.truth]
        starts = np.flatnonzero(np.diff(part.detection, prepend=-1))
        best = np.maximum.reduceat(np.where(is_free, preference, -1), starts, axis=-1)
        found, taken = best >= 0, part.truth[best % size]  # (A, T, D)
        # A ground truth that is taken is no longer free, unless it is a crowd.
        area, threshold, detection = np.nonzero(found & ~truth.is_crowd[taken])
        free[area, threshold, taken[area, threshold, detection]] = False
        at = part.detection[starts]
        matched[..., at] = found
        ignored[..., at] = np.where(found, truth.ignored[areas, taken], ignored[..., at])
        chosen[:, at] = np.where(found[0], truth.index[taken[0]], -1)
