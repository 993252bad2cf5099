"""Weights of classes in the classification loss: how often an object of a class counts."""

import torch
import torch.nn.functional as F  # noqa: N812 as everywhere
from torch import Tensor
from torchvision.ops import box_convert

_LOWEST_TARGET = 0.01
"""Lower bound of upstream on the target score of a matched query."""


def weighting_term(logits: Tensor, labels: Tensor, overlaps: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Return what class weights add to the summed classification loss: exactly 0 if all weights are 1.

    A query that is matched to an object of class c counts `weights[c]` times, with all its logits. Queries without an
    object are background, and count once.

    Args:
        logits: Shape (M, C), of the matched queries.
        labels: Shape (M,), the class of each query's object.
        overlaps: Shape (M,), IoU of each query's box with its object.
        weights: Shape (C,) or shorter, by label.
        alpha: As in `matched_losses`.
    """
    return ((weights[labels] - 1) * matched_losses(logits, labels, overlaps, alpha)).sum()


def matched_losses(logits: Tensor, labels: Tensor, overlaps: Tensor, alpha: float) -> Tensor:
    """Return the classification loss of matched queries, shape (M,): IoU-aware BCE (Cai et al., Align-DETR, 2023).

    The target score of a query is s = p^alpha IoU^(1 - alpha), with the probability p of its object's class. The loss
    of this class is -s log p - (1 - s) log(1 - p). That of any other class, with probability q, is -q^2 log(1 - q).

    Args:
        logits: Shape (M, C).
        labels: Shape (M,), the class of each query's object.
        overlaps: Shape (M,), IoU of each query's box with its object.
        alpha: Weight of the probability in the target score, from 0 to 1.
    """
    is_label = F.one_hot(labels, logits.shape[1]).bool()
    probabilities = logits.sigmoid()
    scores = (probabilities.detach() ** alpha * overlaps[:, None] ** (1 - alpha)).clamp_min(_LOWEST_TARGET)
    positive = -scores * F.logsigmoid(logits) - (1 - scores) * F.logsigmoid(-logits)
    negative = -(probabilities**2) * F.logsigmoid(-logits)
    return torch.where(is_label, positive, negative).sum(dim=1)


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of each box with the other one in its row, shape (M,); both (M, 4), cxcywh."""
    one, two = (box_convert(each, "cxcywh", "xyxy") for each in (boxes, others))
    overlap = (torch.minimum(one[:, 2:], two[:, 2:]) - torch.maximum(one[:, :2], two[:, :2])).clamp_min(0).prod(dim=1)
    areas = [(each[:, 2:] - each[:, :2]).prod(dim=1) for each in (one, two)]
    iou: Tensor = overlap / (areas[0] + areas[1] - overlap).clamp_min(1e-7)
    return iou
