"""COCO's detection metrics: the twelve metrics, AP at more detections under its own name, AP of each class."""

import importlib.metadata
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rfdetr_hwd.evaluation.backends import Backend, NumberedTruth, measure_curves, number_truth
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import AREAS, IOU_THRESHOLDS, match
from rfdetr_hwd.evaluation.thresholds import best_thresholds

_PRECISION = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_RECALL = ("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large")
COCO_METRICS = _PRECISION + _RECALL
"""Names of the twelve metrics, in the order of COCO's summary. AP is over IoU 0.50:0.95 at 100 detections an image."""

_MAX_DETS = (1, 10, 100)

logger = logging.getLogger(__name__)


class CocoMetric:
    """Collects detections of a split and computes COCO's metrics.

    Args:
        ground_truth: COCO dictionary with `images`, `annotations` and `categories`. Ids are any 64-bit integers.
        category_ids: The dataset's category id of each label; `None`: no such category, its detections do not count.
        max_dets: Also report AP at this many detections an image, as `AP@N`; `None`: no such AP.
        backend: `hotcoco`, or `pycocotools`, the reference.

    Example:
        >>> truth = {
        ...     "images": [{"id": 7, "height": 10, "width": 10}],
        ...     "annotations": [
        ...         {"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}
        ...     ],
        ...     "categories": [{"id": 3, "name": "cat"}],
        ... }
        >>> metric = CocoMetric(truth, category_ids=(3,))
        >>> metric.add(
        ...     Detections.from_results([{"image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.9}])
        ... )
        >>> round(metric.compute()["AP"], 3)
        1.0
    """

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int | None],
        max_dets: int | None = None,
        backend: Backend = "hotcoco",
    ) -> None:
        self.ground_truth = ground_truth
        self.category_ids = tuple(category_ids)
        self.class_names = {c["id"]: c["name"] for c in ground_truth["categories"]}
        self.max_dets = max_dets
        self.backend = backend
        # By label, with an entry for all labels beyond the classes
        self._is_class = np.array([*(category_id is not None for category_id in self.category_ids), False])
        self._category_of = np.array([*(category_id or 0 for category_id in self.category_ids), 0], np.int64)
        self._parts: list[Detections] = []
        self._has_warned = False
        self.has_thresholds = True

    @cached_property
    def _numbered_truth(self) -> NumberedTruth:
        return number_truth(self.ground_truth)

    @property
    def protocol(self) -> dict[str, Any]:
        """Return the protocol of the metrics. Metrics of one protocol can be compared."""
        return {
            "backend": self.backend,
            "backend_version": importlib.metadata.version(self.backend),
            "iou": "bbox, 0.50:0.05:0.95",
            "max_dets": list(_MAX_DETS),
            "max_dets_extra": self.max_dets,
            "images": len(self.ground_truth["images"]),
        }

    @property
    def detections(self) -> Detections:
        """Return all detections, in the order they were added."""
        if len(self._parts) != 1:
            self._parts = [Detections.concatenate(self._parts)]
        return self._parts[0]

    def reset(self) -> None:
        """Forget the detections."""
        self._parts = []
        self._has_warned = False

    def update(self, image_ids: Sequence[int], results: Sequence[Mapping[str, Tensor]]) -> None:
        """Add the detections of a batch. Those with NaN or infinity, which have no rank or place, are skipped.

        Args:
            image_ids: The dataset's own id of each image.
            results: For each image `boxes` (K, 4) xyxy in pixels, `scores` (K,) and `labels` (K,). Labels beyond the
                classes (the network's unused logit) are skipped.
        """
        boxes_xyxy, scores, labels = (
            torch.cat([result[key] for result in results]).cpu().double().numpy()
            for key in ("boxes", "scores", "labels")
        )
        labels = np.minimum(labels, len(self.category_ids)).astype(np.intp)
        found = Detections(
            np.repeat(np.array(image_ids, np.int64), [len(result["scores"]) for result in results]),
            self._category_of[labels],
            np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1),
            scores,
        )
        is_finite = np.isfinite(found.scores) & np.isfinite(found.boxes_xywh).all(axis=1)
        if not is_finite.all() and not self._has_warned:
            image_id = found.image_ids[~is_finite][0]
            logger.warning("skipped detections with a non-finite box or score, the first in image %d", image_id)
            self._has_warned = True
        self.add(found[self._is_class[labels] & is_finite])

    def add(self, detections: Detections) -> None:
        """Add detections of images and categories of the ground truth."""
        self._parts.append(detections)

    def measure(self) -> dict[str, float | None]:
        """Return the metrics by name, and the thresholds; these only if `has_thresholds`."""
        if not self.has_thresholds:
            return self.compute()
        # The library computes without the interpreter, which has time for the thresholds.
        with ThreadPoolExecutor(1) as beside:
            thresholds = beside.submit(self.thresholds)
            return {**self.compute(), **thresholds.result()}

    def compute(self) -> dict[str, float | None]:
        """Return the metrics by name.

        The twelve of `COCO_METRICS`, `AP@N` for `max_dets`, and `AP/<class name>` of each class. A metric without
        ground truth, such as the AP of a class that no object has, is `None`; COCO's own evaluation says -1.

        Raises:
            ValueError: A detection is of an image or a category that the ground truth lacks.
        """
        max_dets = [*_MAX_DETS, *([self.max_dets] if self.max_dets else [])]
        precision, recall = measure_curves(self._numbered_truth, self.detections, max_dets, self.backend)
        slices = [precision[..., 0, 2], precision[0, ..., 0, 2], precision[5, ..., 0, 2]]
        slices += [precision[..., area, 2] for area in (1, 2, 3)]
        slices += [recall[..., 0, dets] for dets in (0, 1, 2)] + [recall[..., area, 2] for area in (1, 2, 3)]
        metrics = dict(zip(COCO_METRICS, map(_mean_of_known, slices), strict=True))
        if self.max_dets is not None:
            metrics[f"AP@{self.max_dets}"] = _mean_of_known(precision[..., 0, 3])
        for row, category_id in enumerate(sorted(self.class_names)):
            metrics[f"AP/{self.class_names[category_id]}"] = _mean_of_known(precision[:, :, row, 0, 2])
        return metrics

    def thresholds(self) -> dict[str, float | None]:
        """Return the confidence thresholds with the best F1 at IoU 0.5; see `rfdetr_hwd.evaluation.thresholds`.

        `threshold` over all classes, and `threshold/<class name>` of each. `None`: no detection of the class is true.
        """
        matches = match(self.ground_truth, self.detections, thresholds=IOU_THRESHOLDS[:1], areas=AREAS[:1])
        best = best_thresholds(matches)
        names = ("threshold", *(f"threshold/{name}" for name in matches.class_names))
        found = (best.overall, *best.per_class)
        return {name: one.threshold if one else None for name, one in zip(names, found, strict=True)}


def _mean_of_known(values: NDArray[np.float64]) -> float | None:
    known = values[values > -1]  # -1 stands for no ground truth
    return float(known.mean()) if known.size else None
