"""The libraries that compute COCO's precision and recall: hotcoco, and pycocotools, the reference.

Both are given the same arrays. hotcoco 1.3 returns pycocotools' numbers to the bit, 1.0 to the last bit.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.evaluation.detections import Detections, find_positions

Backend = Literal["hotcoco", "pycocotools"]
"""Names of the libraries, which are also names of packages."""

Curves = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Precision (IoU, recall, class, area, max_dets) and recall (IoU, class, area, max_dets), -1 without ground truth."""


class NumberedTruth(NamedTuple):
    """A ground truth with ids of its own, for both libraries.

    Attributes:
        dataset: COCO dictionary. Images and categories count from 0, annotations from 1.
        image_ids: The former ids of the images, ascending.
        category_ids: The former ids of the categories, ascending.
    """

    dataset: dict[str, Any]
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]


def measure_curves(
    ground_truth: NumberedTruth, detections: Detections, max_dets: Sequence[int], backend: Backend
) -> Curves:
    """Return COCO's precision and recall of boxes, the classes in ascending order of their ids.

    Args:
        ground_truth: From `number_truth`.
        detections: Detections of these images and categories, without NaN.
        max_dets: Detections an image, ascending.
        backend: The library.

    Raises:
        ValueError: A detection is of an image or a category that the ground truth lacks.
    """
    rows = _number(ground_truth, detections)
    coco_class, evaluation_class = _library(backend)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints progress
        truth = coco_class()
        truth.dataset = ground_truth.dataset
        truth.createIndex()
        detected = truth.loadRes(rows) if len(rows) else _nothing(truth)
        evaluation = evaluation_class(truth, detected, "bbox")
        evaluation.params.maxDets = list(max_dets)
        evaluation.evaluate()
        evaluation.accumulate()
    # The arrays are read rather than `summarize`, whose rows the libraries order differently at four max_dets.
    found = evaluation.eval
    return found["precision"], found["recall"]


def number_truth(truth: Mapping[str, Any]) -> NumberedTruth:
    """Return a ground truth with new ids. They count in the order of the old ones, so that ties of scores keep theirs.

    Both libraries take detections as one float array, which does not hold every 64-bit id. Annotations count from 1:
    pycocotools reads a match with annotation 0 as no match.

    Args:
        truth: COCO dictionary with `images`, `annotations` and `categories`. Ids are any 64-bit integers.
    """
    image_ids, category_ids = (sorted(entry["id"] for entry in truth[key]) for key in ("images", "categories"))
    images, categories = ({old: new for new, old in enumerate(ids)} for ids in (image_ids, category_ids))
    annotations = [
        {**entry, "id": new, "image_id": images[entry["image_id"]], "category_id": categories[entry["category_id"]]}
        for new, entry in enumerate(truth["annotations"], 1)
    ]
    dataset = {
        "info": {},
        "images": [{**entry, "id": images[entry["id"]]} for entry in truth["images"]],
        "categories": [{**entry, "id": categories[entry["id"]]} for entry in truth["categories"]],
        "annotations": annotations,
    }
    return NumberedTruth(dataset, np.array(image_ids, np.int64), np.array(category_ids, np.int64))


def _number(truth: NumberedTruth, detections: Detections) -> NDArray[np.float64]:
    """Return detections with the new ids as an array (N, 7): image, x, y, width, height, score, category.

    Raises:
        ValueError: A detection is of an unknown image or category.
    """
    rows = np.empty((len(detections), 7))
    rows[:, 1:5], rows[:, 5] = detections.boxes_xywh, detections.scores
    columns = (
        (0, "image", detections.image_ids, truth.image_ids),
        (6, "category", detections.category_ids, truth.category_ids),
    )
    for column, what, ids, known in columns:
        rows[:, column], is_known = find_positions(ids, known)
        if not is_known.all():
            raise ValueError(f"a detection of an unknown {what}: {ids[~is_known][0]}")
    return rows


def _library(backend: Backend) -> tuple[Any, Any]:
    if backend == "hotcoco":
        import hotcoco

        return hotcoco.COCO, hotcoco.COCOeval
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def _nothing(truth: Any) -> Any:
    """Return an empty result set, which pycocotools' `loadRes` refuses to make."""
    empty = type(truth)()
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty
