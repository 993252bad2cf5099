"""The images with the most errors, each error named."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.errors import BOTH, KINDS, WRONG_CLASS, Errors
from rfdetr_hwd.analysis.overlaps import Overlaps
from rfdetr_hwd.evaluation.matching import Matches


@dataclass(frozen=True)
class NamedError:
    """One error of an image.

    Attributes:
        kind: One of `KINDS`.
        class_name: The detected class, or the class of a missed object.
        box_xyxy: Its box in pixels of the annotated image.
        score: `None`: a missed object.
        true_class: Class of the object, where another one was detected.
        detection: Index in the detections that were matched; `None`: a missed object.
        annotation: Index of the missed or overlapped object in the dataset's list; `None`: background.
    """

    kind: str
    class_name: str
    box_xyxy: tuple[float, float, float, float]
    score: float | None
    true_class: str | None
    detection: int | None
    annotation: int | None


@dataclass(frozen=True)
class WorstImage:
    """An image and its errors: missed objects first, then by descending score.

    Attributes:
        image_id: The dataset's image id.
        weight: Sum over its errors: 1 for a missed object, the score for a wrong detection.
        errors: At least one.
    """

    image_id: int
    weight: float
    errors: tuple[NamedError, ...]


def worst_images(matches: Matches, overlaps: Overlaps, errors: Errors, top: int = 50) -> list[WorstImage]:
    """Return the images with the largest weight of errors, in descending order, ties by ascending image id.

    Args:
        matches: Matches of the run.
        overlaps: Their overlaps.
        errors: Errors at a confidence threshold. Without one, most are detections with a low score.
        top: Largest number of images. Images without an error are not listed.
    """
    num_images = len(matches.image_ids)
    wrong = np.flatnonzero(errors.kind >= 0)
    weights = np.bincount(matches.image[wrong], matches.score[wrong], num_images)
    missed_in = overlaps.objects.image[errors.missed]
    weights += np.bincount(missed_in, minlength=num_images)
    has_errors = np.zeros(num_images, bool)
    has_errors[matches.image[wrong]] = has_errors[missed_in] = True

    order = np.argsort(-weights, kind="stable")
    order = order[has_errors[order]][:top]
    return [
        WorstImage(
            image_id=int(matches.image_ids[image]),
            weight=float(weights[image]),
            errors=(
                *(_name_missed(matches, overlaps, row) for row in errors.missed[missed_in == image].tolist()),
                *(_name_wrong(matches, overlaps, errors, row) for row in _by_score(matches, wrong, image)),
            ),
        )
        for image in order
    ]


def _by_score(matches: Matches, wrong: NDArray[np.int64], image: int) -> list[int]:
    rows = wrong[matches.image[wrong] == image]
    ranked: list[int] = rows[np.argsort(-matches.score[rows], kind="stable")].tolist()
    return ranked


def _name_missed(matches: Matches, overlaps: Overlaps, row: int) -> NamedError:
    objects = overlaps.objects
    return NamedError(
        kind="missed",
        class_name=matches.class_names[objects.category[row]],
        box_xyxy=_corners(objects.boxes_xywh[row]),
        score=None,
        true_class=None,
        detection=None,
        annotation=int(objects.annotation[row]),
    )


def _name_wrong(matches: Matches, overlaps: Overlaps, errors: Errors, row: int) -> NamedError:
    objects, target = overlaps.objects, errors.target[row]
    is_other_class = errors.kind[row] in (WRONG_CLASS, BOTH)
    return NamedError(
        kind=KINDS[errors.kind[row]],
        class_name=matches.class_names[matches.category[row]],
        box_xyxy=_corners(overlaps.boxes_xywh[row]),
        score=float(matches.score[row]),
        true_class=matches.class_names[objects.category[target]] if is_other_class else None,
        detection=int(matches.detection[row]),
        annotation=int(objects.annotation[target]) if target >= 0 else None,
    )


def _corners(box_xywh: NDArray[np.float64]) -> tuple[float, float, float, float]:
    x, y, width, height = box_xywh.tolist()
    return x, y, x + width, y + height
