"""Likely label errors: annotations that the detections of a trained model contradict, ranked by a score.

| kind | what is seen | score |
|---|---|---|
| overlooked | a detection at the place of no annotation | confidence * (1 - highest IoU) |
| swapped | at the place of an annotation, a detection of another class | confidence * (1 - agreement) |
| badly placed | a detection of the class, IoU from 0.1 to 0.5 | confidence * (1 - agreement) * (1 - second IoU) |
| duplicate | two annotations of one class with an IoU of at least 0.8; no model is needed | IoU |

"At the place" is an IoU of at least 0.5. The agreement of an annotation is the highest confidence of a detection of its
class at its place, 0 without one. An annotation is found if its agreement reaches the confidence threshold; it is then
not badly placed. The highest IoU is that of the detection with any annotation, the second IoU with any other one:
a detection between two annotated objects says little. Detections below the threshold only agree. Of several that
overlap with an IoU of at least 0.5, only the most confident one counts.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from rfdetr_hwd.analysis.overlaps import FOREGROUND_IOU, Objects, Overlaps, find_overlaps
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import Matches, match

SUGGESTION_KINDS = ("overlooked", "swapped", "badly placed", "duplicate")
OVERLOOKED, SWAPPED, BADLY_PLACED, DUPLICATE = SUGGESTION_KINDS

DUPLICATE_IOU = 0.8
_LEAST_CONFIDENCE = 0.05
"""Detections below it are not looked at: their agreement would change a score by less."""
_NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class Label:
    """A box of a class.

    Attributes:
        category_id: The dataset's category id.
        box_xywh: In pixels of the annotated image.
    """

    category_id: int
    box_xywh: tuple[float, float, float, float]


@dataclass(frozen=True)
class Suggestion:
    """A likely label error.

    Attributes:
        kind: One of `SUGGESTION_KINDS`.
        score: Above 0 and at most 1: how strongly the annotation is contradicted. It is no probability.
        image_id: The dataset's image id.
        annotation: Index of the annotation in the dataset's list; `None`: it is missing.
        old: The annotation as it is; `None`: it is missing.
        new: The annotation as it may have to be; `None`: it may have to be removed.
        confidence: Of the detection; `None`: no detection is involved.
        twin: Index of the annotation that a duplicate repeats; `None`: it is no duplicate.
    """

    kind: str
    score: float
    image_id: int
    annotation: int | None
    old: Label | None
    new: Label | None
    confidence: float | None
    twin: int | None = None


def find_suggestions(
    ground_truth: Mapping[str, Any], detections: Detections, known: Collection[int], threshold: float
) -> list[Suggestion]:
    """Return the likely label errors of a split by descending score, at most one for each annotation.

    Args:
        ground_truth: The split as a COCO dictionary.
        detections: Detections of a model in its images.
        known: Category ids of the classes that the model knows. Annotations of other classes are not doubted.
        threshold: Confidence threshold, above 0.
    """
    # Relate detections and annotations
    seen = detections[detections.scores >= min(threshold, _LEAST_CONFIDENCE)]
    matches = match(ground_truth, seen, _NO_LIMIT, np.array([FOREGROUND_IOU]), ("all",))
    overlaps = find_overlaps(ground_truth, seen, matches)
    agreement = _agreement(matches, overlaps, known)

    # Ask the confident detections, the most confident first, then the annotations themselves
    is_asked = (matches.score >= threshold) & ~matches.ignored[0, 0]  # those of crowds are ignored
    asked = _strongest(matches, overlaps.boxes_xywh, np.flatnonzero(is_asked))
    doubts = _Doubts(matches, overlaps, agreement, threshold)
    found = [suggestion for row in asked.tolist() if (suggestion := doubts.of_detection(row)) is not None]
    found += _find_duplicates(matches, overlaps.objects)

    # Keep the strongest doubt of each annotation
    found.sort(key=lambda one: (-one.score, one.image_id, -1 if one.annotation is None else one.annotation))
    kept, doubted = [], set()
    for one in found:
        if one.annotation is None or one.annotation not in doubted:
            kept.append(one)
            doubted.add(one.annotation)
    return kept


@dataclass(frozen=True)
class _Doubts:
    """What detections say against annotations.

    Attributes:
        matches: Matches of the detections.
        overlaps: Their overlaps.
        agreement: Agreement of each object, shape (G,).
        threshold: Confidence threshold.
    """

    matches: Matches
    overlaps: Overlaps
    agreement: NDArray[np.float64]
    threshold: float

    def of_detection(self, row: int) -> Suggestion | None:
        """Return the suggestion of a detection, if it contradicts the annotations."""
        first, last = np.searchsorted(self.overlaps.detection, [row, row + 1])
        objects, ious = self.overlaps.object[first:last], self.overlaps.iou[first:last]  # by descending IoU
        is_same, is_there = self.overlaps.same_class[first:last], ious >= FOREGROUND_IOU
        if (is_there & is_same).any():
            return None
        confidence = float(self.matches.score[row])
        if is_there.any():
            doubt = confidence * (1 - self._agreed(objects[0]))
            return self._suggest(SWAPPED, doubt, row, int(objects[0])) if doubt > 0 else None
        not_found = np.flatnonzero(is_same & (self.agreement[objects] < self.threshold))
        if not len(not_found):
            return self._suggest(OVERLOOKED, confidence * (1 - float(ious.max(initial=0))), row, None)
        target = objects[not_found[0]]
        second = float(ious[objects != target].max(initial=0))
        return self._suggest(BADLY_PLACED, confidence * (1 - self._agreed(target)) * (1 - second), row, int(target))

    def _agreed(self, target: np.int64) -> float:
        return float(self.agreement[target])

    def _suggest(self, kind: str, score: float, row: int, target: int | None) -> Suggestion:
        objects, matches = self.overlaps.objects, self.matches
        detected = Label(int(matches.category_ids[matches.category[row]]), _box(self.overlaps.boxes_xywh[row]))
        old = None if target is None else _label(matches, objects, target)
        # Another class has the place of the annotation: the annotated box is the better one
        new = Label(detected.category_id, old.box_xywh) if old is not None and kind == SWAPPED else detected
        return Suggestion(
            kind=kind,
            score=score,
            image_id=int(matches.image_ids[matches.image[row]]),
            annotation=None if target is None else int(objects.annotation[target]),
            old=old,
            new=new,
            confidence=float(matches.score[row]),
        )


def _agreement(matches: Matches, overlaps: Overlaps, known: Collection[int]) -> NDArray[np.float64]:
    """Return the agreement of each object, shape (G,); 1 for objects of classes that the model does not know."""
    is_known = np.isin(matches.category_ids[overlaps.objects.category], list(known))
    agreement = np.where(is_known, 0.0, 1.0)
    pairs = overlaps.same_class & (overlaps.iou >= FOREGROUND_IOU)
    np.maximum.at(agreement, overlaps.object[pairs], matches.score[overlaps.detection[pairs]])
    return agreement


def _strongest(matches: Matches, boxes_xywh: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of the detections that no more confident one of their image overlaps, whatever its class.

    They are ordered by image, then by descending confidence.
    """
    kept: list[int] = []
    for of_image in _by_image(rows[np.argsort(-matches.score[rows], kind="stable")], matches.image):
        boxes = boxes_xywh[of_image]
        overlap = coco_mask.iou(boxes, boxes, np.zeros(len(boxes), np.uint8)) >= FOREGROUND_IOU
        chosen: list[int] = []
        for place in range(len(of_image)):
            if not overlap[place, chosen].any():
                chosen.append(place)
        kept += of_image[chosen].tolist()
    return np.array(kept, np.int64)


def _find_duplicates(matches: Matches, objects: Objects) -> Iterator[Suggestion]:
    """Yield the annotations that an earlier one of their class and image covers."""
    for rows in _by_image(np.arange(len(objects)), objects.image):
        boxes = objects.boxes_xywh[rows]
        ious = np.tril(coco_mask.iou(boxes, boxes, np.zeros(len(boxes), np.uint8)), k=-1)
        ious[objects.category[rows][:, None] != objects.category[rows]] = 0
        for place in np.flatnonzero(ious.max(axis=1) >= DUPLICATE_IOU):
            row = int(rows[place])
            yield Suggestion(
                kind=DUPLICATE,
                score=min(1.0, float(ious[place].max())),  # an IoU may be rounded up
                image_id=int(matches.image_ids[objects.image[row]]),
                annotation=int(objects.annotation[row]),
                old=_label(matches, objects, row),
                new=None,
                confidence=None,
                twin=int(objects.annotation[rows[ious[place].argmax()]]),
            )


def _by_image(rows: NDArray[np.int64], image: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    """Return the rows of each image that has any, in their order."""
    rows = rows[np.argsort(image[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(image[rows], prepend=-1))
    return np.split(rows, starts[1:]) if len(rows) else []


def _label(matches: Matches, objects: Objects, row: int) -> Label:
    return Label(int(matches.category_ids[objects.category[row]]), _box(objects.boxes_xywh[row]))


def _box(box_xywh: NDArray[np.float64]) -> tuple[float, float, float, float]:
    x, y, width, height = box_xywh.tolist()
    return x, y, width, height
