"""Which detections overlap which objects, across classes: what the names of errors are read from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import Matches

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
"""TIDE's thresholds: a detection with a lower IoU than the second overlaps nothing."""


@dataclass(frozen=True)
class Objects:
    """Ground truths without crowds, of known images and classes, ordered by image, then by annotation id.

    Attributes:
        annotation: Index in the dataset's list of annotations, shape (G,).
        image: Index of the image in `Matches.image_ids`, shape (G,).
        category: Index of the class in `Matches.category_ids`, shape (G,).
        boxes_xywh: Boxes in pixels of the annotated image, shape (G, 4).
    """

    annotation: NDArray[np.int64]
    image: NDArray[np.int64]
    category: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.annotation)

    def rows(self, annotation: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each annotation, -1 for a crowd or for -1."""
        size = max(self.annotation.max(initial=-1), annotation.max(initial=-1)) + 2
        row_of = np.full(size, -1, np.int64)
        row_of[self.annotation] = np.arange(len(self))
        return row_of[annotation]  # -1 reads the last element, which no annotation has


@dataclass(frozen=True)
class Overlaps:
    """Pairs of a detection and an object of one image with an IoU of at least `BACKGROUND_IOU`.

    Pairs are ordered by detection, then by descending IoU, then by object.

    Attributes:
        objects: The objects.
        boxes_xywh: Boxes of the detections of `Matches`, in pixels of the annotated image, shape (N, 4).
        detection: Detection of each pair, in the order of `Matches`, shape (P,).
        object: Row of its object, shape (P,).
        iou: Shape (P,).
        same_class: Whether both have one class, shape (P,).
    """

    objects: Objects
    boxes_xywh: NDArray[np.float64]
    detection: NDArray[np.int64]
    object: NDArray[np.int64]
    iou: NDArray[np.float64]
    same_class: NDArray[np.bool_]

    def best(self, among: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the object with the highest IoU for each detection, and this IoU: -1 and 0 where there is none.

        Args:
            among: Pairs that are considered, shape (P,).
        """
        objects, ious = np.full(len(self.boxes_xywh), -1, np.int64), np.zeros(len(self.boxes_xywh))
        pairs = np.flatnonzero(among)
        detections, first = np.unique(self.detection[pairs], return_index=True)
        objects[detections], ious[detections] = self.object[pairs[first]], self.iou[pairs[first]]
        return objects, ious


def find_overlaps(ground_truth: Mapping[str, Any], detections: Detections, matches: Matches) -> Overlaps:
    """Compute the overlaps of the detections of `matches` with all objects of their images.

    Args:
        ground_truth: The COCO dictionary that was matched.
        detections: The detections that were matched.
        matches: Their matches.
    """
    objects = _read_objects(ground_truth["annotations"], matches)
    boxes_xywh = detections.boxes_xywh[matches.detection]
    by_image = np.argsort(matches.image, kind="stable")
    images = np.arange(len(matches.image_ids) + 1)
    starts, object_starts = np.searchsorted(matches.image[by_image], images), np.searchsorted(objects.image, images)

    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for image in np.flatnonzero((np.diff(starts) > 0) & (np.diff(object_starts) > 0)):
        rows, first = by_image[starts[image] : starts[image + 1]], object_starts[image]
        of_image = objects.boxes_xywh[first : object_starts[image + 1]]
        ious = coco_mask.iou(boxes_xywh[rows], of_image, np.zeros(len(of_image), np.uint8))
        row, column = np.nonzero(ious >= BACKGROUND_IOU)
        parts.append((rows[row], first + column, ious[row, column]))

    nothing = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    detection, found, iou = (np.concatenate(column) for column in zip(nothing, *parts, strict=True))
    order = np.lexsort((found, -iou, detection))
    detection, found, iou = detection[order], found[order], iou[order]
    same_class = matches.category[detection] == objects.category[found]
    return Overlaps(objects, boxes_xywh, detection, found, iou, same_class)


def _read_objects(annotations: list[Mapping[str, Any]], matches: Matches) -> Objects:
    images = {image: row for row, image in enumerate(matches.image_ids.tolist())}
    categories = {category: row for row, category in enumerate(matches.category_ids.tolist())}
    kept = [
        (images[a["image_id"]], a["id"], index, categories[a["category_id"]], *a["bbox"])
        for index, a in enumerate(annotations)
        if not a.get("iscrowd", 0) and a["image_id"] in images and a["category_id"] in categories
    ]
    table = np.array(sorted(kept), np.float64).reshape(-1, 8)  # float64 holds whole numbers up to 2**53
    image, _, annotation, category = table[:, :4].T.astype(np.int64)
    return Objects(annotation, image, category, table[:, 4:])
