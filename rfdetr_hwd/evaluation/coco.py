"""COCO's detection metrics: the twelve metrics, AP at more detections under its own name, AP of each class."""

import contextlib
import importlib.metadata
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

_PRECISION = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_RECALL = ("AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large")
COCO_METRICS = _PRECISION + _RECALL
"""Names of the twelve metrics, in the order of COCO's summary. AP is over IoU 0.50:0.95 at 100 detections an image."""

_MAX_DETS = (1, 10, 100)
_PACKAGES = {"pycocotools": "pycocotools", "faster": "faster-coco-eval"}


class CocoMetric:
    """Collects detections of a split and computes COCO's metrics.

    Args:
        ground_truth: COCO dictionary with `images`, `annotations` (numbered from 1) and `categories`.
        category_ids: The dataset's category id of each label; `None`: no such category, its detections do not count.
        max_dets: Also report AP at this many detections an image, as `AP@N`; `None`: no such AP.
        backend: `pycocotools`, the reference, or `faster` (faster-coco-eval).

    Example:
        >>> truth = {
        ...     "images": [{"id": 7, "height": 10, "width": 10}],
        ...     "annotations": [
        ...         {"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}
        ...     ],
        ...     "categories": [{"id": 3, "name": "cat"}],
        ... }
        >>> metric = CocoMetric(truth, category_ids=(3,))
        >>> metric.add([{"image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.9}])
        >>> round(metric.compute()["AP"], 3)
        1.0
    """

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int | None],
        max_dets: int | None = None,
        backend: Literal["pycocotools", "faster"] = "pycocotools",
    ) -> None:
        self.ground_truth = ground_truth
        self.category_ids = tuple(category_ids)
        self.class_names = {c["id"]: c["name"] for c in ground_truth["categories"]}
        self.max_dets = max_dets
        self.backend = backend
        self.detections: list[dict[str, Any]] = []

    @property
    def protocol(self) -> dict[str, Any]:
        """Return the protocol of the metrics. Metrics of one protocol can be compared."""
        package = _PACKAGES[self.backend]
        return {
            "backend": package,
            "backend_version": importlib.metadata.version(package),
            "iou": "bbox, 0.50:0.05:0.95",
            "max_dets": list(_MAX_DETS),
            "max_dets_extra": self.max_dets,
            "images": len(self.ground_truth["images"]),
        }

    def reset(self) -> None:
        """Forget the detections."""
        self.detections = []

    def update(self, image_ids: Sequence[int], results: Sequence[Mapping[str, Tensor]]) -> None:
        """Add the detections of a batch.

        Args:
            image_ids: The dataset's own id of each image.
            results: For each image `boxes` (K, 4) xyxy in pixels, `scores` (K,) and `labels` (K,). Labels beyond the
                classes (the network's unused logit) are skipped.
        """
        for image_id, result in zip(image_ids, results, strict=True):
            boxes_xyxy = result["boxes"].double().cpu().numpy()
            boxes_xywh = np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], axis=1)
            rows = zip(boxes_xywh.tolist(), result["scores"].tolist(), result["labels"].tolist(), strict=True)
            self.add(
                [
                    {"image_id": image_id, "category_id": self.category_ids[label], "bbox": box, "score": score}
                    for box, score, label in rows
                    if label < len(self.category_ids) and self.category_ids[label] is not None
                ]
            )

    def add(self, detections: Sequence[dict[str, Any]]) -> None:
        """Add detections in COCO's results format: image_id, category_id, bbox (xywh in pixels), score."""
        self.detections.extend(detections)

    def compute(self) -> dict[str, float | None]:
        """Return the metrics by name.

        The twelve of `COCO_METRICS`, `AP@N` for `max_dets`, and `AP/<class name>` of each class. A metric without
        ground truth, such as the AP of a class that no object has, is `None`; COCO's own evaluation says -1.
        """
        evaluation = self._evaluate()
        # The arrays are read rather than `summarize`, whose rows the two libraries order differently at four max_dets.
        precision = evaluation.eval["precision"]  # (IoU, recall, class, area, max_dets)
        recall = evaluation.eval["recall"]  # (IoU, class, area, max_dets)
        slices = [precision[..., 0, 2], precision[0, ..., 0, 2], precision[5, ..., 0, 2]]
        slices += [precision[..., area, 2] for area in (1, 2, 3)]
        slices += [recall[..., 0, dets] for dets in (0, 1, 2)] + [recall[..., area, 2] for area in (1, 2, 3)]
        metrics = dict(zip(COCO_METRICS, map(_mean_of_known, slices), strict=True))
        if self.max_dets is not None:
            metrics[f"AP@{self.max_dets}"] = _mean_of_known(precision[..., 0, 3])
        for row, category_id in enumerate(evaluation.params.catIds):
            metrics[f"AP/{self.class_names[category_id]}"] = _mean_of_known(precision[:, :, row, 0, 2])
        return metrics

    def _evaluate(self) -> Any:
        coco_class, evaluation_class = _library(self.backend)
        with contextlib.redirect_stdout(io.StringIO()):  # both libraries print progress
            truth = coco_class()
            truth.dataset = dict(self.ground_truth)
            truth.createIndex()
            detected = truth.loadRes([dict(d) for d in self.detections]) if self.detections else _nothing(truth)
            evaluation = evaluation_class(truth, detected, "bbox")
            evaluation.params.maxDets = [*_MAX_DETS, *([self.max_dets] if self.max_dets else [])]
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation


def _library(backend: str) -> tuple[Any, Any]:
    if backend == "faster":
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def _nothing(truth: Any) -> Any:
    """Return an empty result set, which `loadRes` refuses to make."""
    empty = type(truth)()
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty


def _mean_of_known(values: np.ndarray) -> float | None:
    known = values[values > -1]  # -1 stands for no ground truth
    return float(known.mean()) if known.size else None
