"""Shift consistency: what a model detects when its input moves by a few pixels.

A detector with stride-2 layers is not equivariant to shifts of fewer pixels than its stride (Zhang (2019), "Making
Convolutional Networks Shift-Invariant Again"; Azulay and Weiss (2019)).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from rfdetr_hwd.evaluation.detections import Detections

MIN_IOU = 0.9
"""A detection is kept if a detection of the shifted image has its class and this IoU with it."""


class Shifted(nn.Module):
    """A network that sees its input moved to the right and down. Its boxes are moved back.

    The border pixels are repeated, and as many pixels leave the input on the other side.

    Args:
        network: A detector that maps images (N, 3, R, R) to outputs with `pred_boxes` (N, Q, 4), normalised cxcywh.
        pixels: Shift in pixels of the input.
    """

    def __init__(self, network: nn.Module, pixels: int) -> None:
        super().__init__()
        self.network, self.pixels = network, pixels
        self.train(network.training)  # what restores this module's mode restores the network's, too

    def forward(self, images: Tensor) -> dict[str, Any]:
        """Return the outputs of the network for the shifted images."""
        height, width = images.shape[-2:]
        padded = nn.functional.pad(images, (self.pixels, 0, self.pixels, 0), mode="replicate")
        outputs: dict[str, Any] = dict(self.network(padded[..., :height, :width]))
        boxes_cxcywh = outputs["pred_boxes"].float()  # mixed precision would round them again
        offset = boxes_cxcywh.new_tensor([self.pixels / width, self.pixels / height, 0, 0])
        return {**outputs, "pred_boxes": boxes_cxcywh - offset}


class Consistency(NamedTuple):
    """How many detections survive a shift.

    Attributes:
        kept: Fraction of the detections that are kept; `None` without detections.
        score_change: Mean absolute change of the score of kept detections; `None` without them.
    """

    kept: float | None
    score_change: float | None


def compare_detections(still: Detections, moved: Detections, threshold: float) -> Consistency:
    """Return which detections above a threshold are kept in the detections of shifted images.

    Each detection is paired with the one of its image and class with the highest IoU. A detection of the shifted image
    serves one pair: the still one with the higher score takes it.

    Args:
        still: Detections of the images.
        moved: Detections of the shifted images, moved back. All of them count, whatever their score.
        threshold: Confidence threshold of the still detections.
    """
    still = still[still.scores >= threshold]
    groups = _rows_by_group(moved)
    num_kept, changes = 0, list[float]()
    for key, rows in _rows_by_group(still).items():
        others = groups.get(key, np.zeros(0, np.intp))
        if not len(others):
            continue
        ious = coco_mask.iou(still.boxes_xywh[rows], moved.boxes_xywh[others], np.zeros(len(others), np.uint8))
        for number, row in enumerate(rows):
            best = int(ious[number].argmax())
            if ious[number, best] >= MIN_IOU:
                ious[:, best] = -1  # taken
                num_kept += 1
                changes.append(abs(float(still.scores[row] - moved.scores[others[best]])))
    return Consistency(num_kept / len(still) if len(still) else None, float(np.mean(changes)) if changes else None)


def _rows_by_group(detections: Detections) -> dict[tuple[int, int], NDArray[np.intp]]:
    """Return the rows of each image and class, by descending score."""
    order = np.lexsort((-detections.scores, detections.category_ids, detections.image_ids))
    keys = np.stack([detections.image_ids[order], detections.category_ids[order]], axis=1)
    starts = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)]) if len(keys) else np.zeros(0, np.intp)
    return {tuple(keys[start].tolist()): rows for start, rows in zip(starts, np.split(order, starts[1:]), strict=False)}


def summarise(aps: Sequence[float | None], consistencies: Sequence[Consistency]) -> dict[str, Any]:
    """Return the metrics of shift consistency.

    Args:
        aps: AP at a shift of 0, 1, 2, ... pixels.
        consistencies: For each shift but the first.
    """
    known = [ap for ap in aps if ap is not None]
    kept = [one.kept for one in consistencies if one.kept is not None]
    changes = [one.score_change for one in consistencies if one.score_change is not None]
    return {
        "AP": list(aps),
        "kept": [one.kept for one in consistencies],
        "AP_worst": min(known, default=None),
        "AP_best": max(known, default=None),
        "kept_mean": float(np.mean(kept)) if kept else None,
        "score_change_mean": float(np.mean(changes)) if changes else None,
    }
