"""COCO's matching an image and a class at a time, as it was before it was done for all of them at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import AREAS, IOU_THRESHOLDS, Matches, MatchingError

_AREA_RANGES = np.array([(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)])
_LANES = (len(AREAS), len(IOU_THRESHOLDS))


@dataclass(frozen=True)
class _Truth:
    """Ground truths ordered by image and class; `pair` is image index * C + class index."""

    pair: NDArray[np.int64]
    index: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    is_crowd: NDArray[np.bool_]
    ignored: NDArray[np.bool_]  # (A, G)


def match_one_by_one(ground_truth: Mapping[str, Any], detections: Detections, max_dets: int = 100) -> Matches:
    """Match detections to ground truths exactly as `COCOeval.evaluateImg` does.

    Args:
        ground_truth: COCO dictionary with `images`, `annotations` and `categories`.
        detections: Detections of the images. Those of other categories do not count.
        max_dets: Number of detections kept for each image and class, the best by score.

    Raises:
        MatchingError: A detection's image is not in the ground truth.
    """
    image_ids = np.unique(np.array([image["id"] for image in ground_truth["images"]], np.int64))
    names = {int(category["id"]): str(category["name"]) for category in ground_truth["categories"]}
    category_ids = np.array(sorted(names), np.int64)
    truth = _read_truth(ground_truth["annotations"], image_ids, category_ids)
    index, pair, rank = _order_by_pair(detections, image_ids, category_ids, max_dets)
    boxes_xywh = detections.boxes_xywh[index]

    # An unmatched detection is ignored where its own area is outside the range.
    area = boxes_xywh[:, 2] * boxes_xywh[:, 3]
    outside = (area < _AREA_RANGES[:, :1]) | (area > _AREA_RANGES[:, 1:])
    matched = np.zeros((*_LANES, len(index)), bool)
    ignored = np.repeat(outside[:, None], len(IOU_THRESHOLDS), axis=1)
    chosen = np.full((len(IOU_THRESHOLDS), len(index)), -1, np.int64)

    # Images and classes without ground truth need no matching: most pairs of a large vocabulary.
    for of_pair in np.unique(truth.pair):
        rows, truths = (slice(*np.searchsorted(pairs, [of_pair, of_pair + 1])) for pairs in (pair, truth.pair))
        if rows.start < rows.stop:
            _match_pair(boxes_xywh, rows, truth, truths, (matched, ignored, chosen))

    # From the order of images to the order of scores within a class; stable, so ties stay in COCO's order.
    category, image = pair % max(len(category_ids), 1), pair // max(len(category_ids), 1)
    scores = detections.scores[index]
    order = np.lexsort((np.arange(len(index)), -scores, category))
    return Matches(
        image_ids=image_ids,
        category_ids=category_ids,
        class_names=tuple(names[category_id] for category_id in category_ids.tolist()),
        detection=index[order],
        image=image[order].astype(np.int32),
        category=category[order].astype(np.int32),
        score=scores[order],
        rank=rank[order].astype(np.int32),
        matched=matched[..., order],
        ignored=ignored[..., order],
        ground_truth=chosen[:, order],
        num_ground_truth=_count(truth, len(category_ids), len(image_ids)),
    )


def _read_truth(
    annotations: list[Mapping[str, Any]], image_ids: NDArray[np.int64], category_ids: NDArray[np.int64]
) -> _Truth:
    """Return the annotations of known images and categories, ordered by image and class, then as listed."""
    image, known_image = _positions(np.array([a["image_id"] for a in annotations], np.int64), image_ids)
    category, known_category = _positions(np.array([a["category_id"] for a in annotations], np.int64), category_ids)
    pair = image * len(category_ids) + category
    index = np.flatnonzero(known_image & known_category)
    index = index[np.argsort(pair[index], kind="stable")]
    boxes_xywh = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)[index]
    is_crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], bool)[index]
    area = np.array([a["area"] for a in annotations], np.float64)[index]
    outside = (area < _AREA_RANGES[:, :1]) | (area > _AREA_RANGES[:, 1:])
    return _Truth(pair[index], index, boxes_xywh, is_crowd, outside | is_crowd)


def _order_by_pair(
    detections: Detections, image_ids: NDArray[np.int64], category_ids: NDArray[np.int64], max_dets: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return index, pair and rank of the detections that count, ordered by image, class and descending score."""
    image, known_image = _positions(detections.image_ids, image_ids)
    if not known_image.all():
        stranger = int(detections.image_ids[~known_image][0])
        raise MatchingError(f"image {stranger}: it has detections, but it is not in the ground truth")
    category, known_category = _positions(detections.category_ids, category_ids)
    pair = image * len(category_ids) + category
    index = np.flatnonzero(known_category)
    index = index[np.lexsort((index, -detections.scores[index], pair[index]))]
    pair = pair[index]
    rank = np.arange(len(pair)) - np.searchsorted(pair, pair)
    kept = rank < max_dets
    return index[kept], pair[kept], rank[kept]


def _positions(ids: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the position of each id among sorted ids, and whether it is one of them."""
    if not len(known):
        return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
    position = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return position, known[position] == ids


def _match_pair(
    boxes_xywh: NDArray[np.float64],
    rows: slice,
    truth: _Truth,
    truths: slice,
    result: tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]],
) -> None:
    """Match the detections of one image and class greedily, all area ranges and thresholds at once.

    COCO visits the ground truths that count first, then the ignored ones, and keeps the last of equal IoUs. A crowd
    can be matched again.
    """
    matched, ignored, chosen = result
    is_crowd, skipped = truth.is_crowd[truths], truth.ignored[:, None, truths]  # (G,), (A, 1, G)
    ious = coco_mask.iou(boxes_xywh[rows], truth.boxes_xywh[truths], is_crowd.astype(np.uint8))
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]
    free = np.ones((*_LANES, len(is_crowd)), bool)
    lanes = np.indices(_LANES)
    for row in np.flatnonzero(ious.max(axis=1) >= IOU_THRESHOLDS[0]):
        candidates = free & (ious[row] >= thresholds)
        counted = candidates & ~skipped
        candidates = np.where(counted.any(axis=-1, keepdims=True), counted, candidates)
        found = candidates.any(axis=-1)
        # The last of the best: argmax finds the first, so it looks from the end.
        best = len(is_crowd) - 1 - np.argmax(np.where(candidates, ious[row], -1.0)[..., ::-1], axis=-1)
        free[(*lanes, best)] &= ~found | is_crowd[best]
        at = rows.start + row
        matched[..., at] = found
        ignored[..., at] = np.where(found, truth.ignored[lanes[0], truths.start + best], ignored[..., at])
        chosen[:, at] = np.where(found[0], truth.index[truths.start + best[0]], -1)


def _count(truth: _Truth, num_classes: int, num_images: int) -> NDArray[np.int32]:
    """Return the number of ground truths that are not ignored, shape (A, C, I)."""
    size = num_classes * num_images
    counts = [np.bincount(truth.pair[~ignored], minlength=size) for ignored in truth.ignored]
    return np.array(counts, np.int32).reshape(len(AREAS), num_images, num_classes).transpose(0, 2, 1)
