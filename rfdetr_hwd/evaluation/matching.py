"""COCO's matching of detections to ground truths, computed once for each image and class, as flat arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.errors import UserError
from rfdetr_hwd.evaluation.detections import Detections, find_positions
from rfdetr_hwd.evaluation.greedy import Truth, find_candidates, match_all

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREAS = ("all", "small", "medium", "large")
_AREA_RANGES = np.array([(0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10)])  # square pixels, both ends included


class MatchingError(UserError):
    """Detections that do not belong to the ground truth."""


@dataclass(frozen=True)
class Matches:
    """Matches of one run's detections: A area ranges, T IoU thresholds, C classes, I images, N detections.

    Detections are ordered by class, then by descending score. Ties keep COCO's order: by image, then as given. A
    detection is a true positive where it is matched and not ignored, a false positive where it is neither.

    Attributes:
        image_ids: The dataset's image ids in ascending order, shape (I,).
        category_ids: The dataset's category ids in ascending order, shape (C,).
        class_names: Names of the classes, C.
        detection: Index of each detection in what was given to `match`, shape (N,).
        image: Index of its image in `image_ids`, shape (N,).
        category: Index of its class in `category_ids`, shape (N,).
        score: Confidence, shape (N,).
        rank: Rank among the detections of its image and class, from 0, shape (N,).
        matched: Whether a ground truth is matched, shape (A, T, N).
        ignored: Whether it does not count, for a crowd or an object outside the area range, shape (A, T, N).
        ground_truth: Index of the matched annotation in the dataset's list, -1: none; area range `all`, shape (T, N).
        num_ground_truth: Number of ground truths that are not ignored, shape (A, C, I).
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    detection: NDArray[np.int64]
    image: NDArray[np.int32]
    category: NDArray[np.int32]
    score: NDArray[np.float64]
    rank: NDArray[np.int32]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    ground_truth: NDArray[np.int64]
    num_ground_truth: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.score)


def match(
    ground_truth: Mapping[str, Any],
    detections: Detections,
    max_dets: int = 100,
    thresholds: NDArray[np.float64] = IOU_THRESHOLDS,
    areas: Sequence[str] = AREAS,
) -> Matches:
    """Match detections to ground truths exactly as `COCOeval.evaluateImg` does.

    Args:
        ground_truth: COCO dictionary with `images`, `annotations` and `categories`.
        detections: Detections of the images. Those of other categories do not count.
        max_dets: Number of detections kept for each image and class, the best by score.
        thresholds: IoU thresholds, ascending, shape (T,). Fewer of them take less time.
        areas: Area ranges, the first A of `AREAS`.

    Raises:
        MatchingError: A detection's image is not in the ground truth.
    """
    image_ids = np.unique(np.array([image["id"] for image in ground_truth["images"]], np.int64))
    names = {int(category["id"]): str(category["name"]) for category in ground_truth["categories"]}
    category_ids = np.array(sorted(names), np.int64)
    truth = _read_truth(ground_truth["annotations"], image_ids, category_ids, len(areas))
    index, image, category, rank = _order(detections, image_ids, category_ids, max_dets)
    pair = image * len(category_ids) + category
    by_pair = _stable_order(image, len(image_ids))  # the order of classes and scores is kept

    # An unmatched detection is ignored where its own area is outside the range.
    area = (detections.boxes_xywh[:, 2] * detections.boxes_xywh[:, 3])[index]
    outside = (area < _AREA_RANGES[: len(areas), :1]) | (area > _AREA_RANGES[: len(areas), 1:])
    matched = np.zeros((len(areas), len(thresholds), len(index)), bool)
    ignored = np.repeat(outside[:, None], len(thresholds), axis=1)
    chosen = np.full(matched.shape[1:], -1, np.int64)
    candidates = find_candidates(detections.boxes_xywh, index, pair, by_pair, truth, thresholds[0])
    match_all(candidates, truth, thresholds, (matched, ignored, chosen))

    return Matches(
        image_ids=image_ids,
        category_ids=category_ids,
        class_names=tuple(names[category_id] for category_id in category_ids.tolist()),
        detection=index,
        image=image.astype(np.int32),
        category=category.astype(np.int32),
        score=detections.scores[index],
        rank=rank.astype(np.int32),
        matched=matched,
        ignored=ignored,
        ground_truth=chosen,
        num_ground_truth=_count(truth, len(category_ids), len(image_ids)),
    )


def _read_truth(
    annotations: list[Mapping[str, Any]],
    image_ids: NDArray[np.int64],
    category_ids: NDArray[np.int64],
    num_areas: int,
) -> Truth:
    """Return the annotations of known images and categories, ordered by image and class, then as listed."""
    image, known_image = find_positions(np.array([a["image_id"] for a in annotations], np.int64), image_ids)
    category, known_category = find_positions(np.array([a["category_id"] for a in annotations], np.int64), category_ids)
    pair = image * len(category_ids) + category
    index = np.flatnonzero(known_image & known_category)
    index = index[np.argsort(pair[index], kind="stable")]
    boxes_xywh = np.array([a["bbox"] for a in annotations], np.float64).reshape(-1, 4)[index]
    is_crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], bool)[index]
    area = np.array([a["area"] for a in annotations], np.float64)[index]
    outside = (area < _AREA_RANGES[:num_areas, :1]) | (area > _AREA_RANGES[:num_areas, 1:])
    return Truth(pair[index], index, boxes_xywh, is_crowd, outside | is_crowd)


def _order(
    detections: Detections, image_ids: NDArray[np.int64], category_ids: NDArray[np.int64], max_dets: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the detections that count, in the order of `Matches`, with their image, class and rank.

    Several stable sorts of small whole numbers take a tenth of the time of one sort by class, score and image.
    """
    image, known_image = find_positions(detections.image_ids, image_ids)
    if not known_image.all():
        stranger = int(detections.image_ids[~known_image][0])
        raise MatchingError(f"image {stranger}: it has detections, but it is not in the ground truth")
    category, known_category = find_positions(detections.category_ids, category_ids)
    # By class, then by descending score; ties by image, then as given.
    index = np.flatnonzero(known_category)
    index = index[_stable_order(image[index], len(image_ids))]
    index = index[_stable_order(category[index], len(category_ids))]
    ends = np.cumsum(np.bincount(category[index], minlength=len(category_ids)))
    of_classes = np.split(index, ends[:-1])
    index = np.concatenate(
        [rows[np.argsort(-detections.scores[rows], kind="stable")] for rows in (*of_classes, index[:0])]
    )
    # Number those of an image and class.
    image, category = image[index], category[index]
    by_pair = _stable_order(image, len(image_ids))
    pair, place = (image * len(category_ids) + category)[by_pair], np.arange(len(index))
    rank = np.empty(len(index), np.int64)
    rank[by_pair] = place - np.maximum.accumulate(np.where(np.diff(pair, prepend=-1) != 0, place, 0))
    if len(rank) and rank.max() >= max_dets:
        index, image, category, rank = (column[rank < max_dets] for column in (index, image, category, rank))
    return index, image, category, rank


def _stable_order(values: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return the order of values from 0 to below a limit, which keeps equal ones in their order."""
    return np.argsort(values.astype(np.uint16) if limit <= 1 << 16 else values, kind="stable")  # of 16 bits: linear


def _count(truth: Truth, num_classes: int, num_images: int) -> NDArray[np.int32]:
    """Return the number of ground truths that are not ignored, shape (A, C, I)."""
    size = num_classes * num_images
    counts = [np.bincount(truth.pair[~ignored], minlength=size) for ignored in truth.ignored]
    return np.array(counts, np.int32).reshape(len(truth.ignored), num_images, num_classes).transpose(0, 2, 1)
