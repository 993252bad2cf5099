"""One optimiser update over its micro-batches. It computes; when to log, save or stop is the loop's business."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.engine.distributed import gradient_sync, sum_over_ranks, world_size


class MicroBatch(Protocol):
    """Images and targets of one forward pass."""

    @property
    def images(self) -> Tensor: ...
    @property
    def targets(self) -> list[dict[str, Tensor]]: ...
    @property
    def image_ids(self) -> tuple[int, ...]: ...
    @property
    def is_counted(self) -> bool: ...


class Criterion(Protocol):
    """A loss that is given its normaliser."""

    def count_boxes(self, targets: list[dict[str, Tensor]]) -> int: ...
    def __call__(
        self, outputs: Any, targets: list[dict[str, Tensor]], num_boxes: float
    ) -> tuple[Tensor, dict[str, Tensor]]: ...


@dataclass(frozen=True)
class StepResult:
    """What an update measured, as tensors, so that reading them stays the caller's choice.

    Attributes:
        loss: Scalar; on several ranks this rank's part, whose mean over the ranks is the loss.
        terms: Weighted loss terms, which the loss is the sum of.
        grad_norm: Norm of the gradient before clipping.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    grad_norm: Tensor


class NonFiniteError(Exception):
    """A loss or gradient that is not finite; raised before the optimiser step, with the gradients in place."""

    def __init__(self, image_ids: Sequence[int], terms: dict[str, float]) -> None:
        super().__init__(f"loss terms {terms}, images {list(image_ids)}")
        self.image_ids, self.terms = tuple(image_ids), terms


def train_step(
    network: nn.Module,
    criterion: Criterion,
    micro_batches: Sequence[MicroBatch],
    optimizer: torch.optim.Optimizer,
    args: HasAmp,
    clip: float,
) -> StepResult:
    """Make one update from one or more micro-batches.

    The loss of every micro-batch is normalised by the box count of the whole update, over all micro-batches and all
    ranks, so 16 images at once, four times four, or eight on each of two ranks are the same update.

    Args:
        network: In training mode; on several ranks, wrapped by `distributed.distribute`.
        criterion: Loss of float32 outputs.
        micro_batches: On the network's device.
        optimizer: Its learning rates are set already.
        args: Precision, for `amp_context`.
        clip: Largest gradient norm; 0 does not clip.

    Raises:
        NonFiniteError: The loss or the gradient is not finite; the weights are as they were.
    """
    num_boxes = _num_boxes(criterion, micro_batches)
    terms: dict[str, Tensor] = {}
    for index, batch in enumerate(micro_batches):
        with gradient_sync(network, is_last=index == len(micro_batches) - 1):
            outputs = forward_in_amp(network, batch.images, args)
            batch_loss, batch_terms = criterion(outputs, batch.targets, num_boxes=num_boxes)
            (batch_loss * float(batch.is_counted)).backward()
        for name, value in batch_terms.items():
            terms[name] = terms.get(name, 0) + value * float(batch.is_counted)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    grad_norm = nn.utils.clip_grad_norm_(parameters, clip if clip > 0 else float("inf"))
    loss = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(loss + grad_norm):  # waits for the device; matching boxes on the host has waited already
        image_ids = [image_id for batch in micro_batches for image_id in batch.image_ids]
        raise NonFiniteError(image_ids, {name: float(value) for name, value in terms.items()})
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return StepResult(loss, terms, grad_norm)


def _num_boxes(criterion: Criterion, micro_batches: Sequence[MicroBatch]) -> float:
    """Return the normaliser: the box count of the update, over the number of ranks that gradients are averaged over."""
    mine = sum(criterion.count_boxes(batch.targets) for batch in micro_batches if batch.is_counted)
    total = sum_over_ranks(torch.tensor(float(mine), device=micro_batches[0].images.device))
    return max(1.0, float(total)) / world_size()
