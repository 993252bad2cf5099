"""One optimizer step over its micro-batches. The training loop decides when to log, save or stop."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.runtime.distributed import (
    agree,
    all_gather_objects,
    average_gradients,
    max_over_ranks,
    sum_over_ranks,
    world_size,
)
from rfdetr_hwd.runtime.laps import lap
from rfdetr_hwd.runtime.memory import (
    RUN_REMEDIES,
    HalfUpdatedError,
    OutOfMemoryError,
    is_out_of_memory,
    noting_shortage,
)


@dataclass(frozen=True)
class StepResult:
    """The results of a step, as tensors. The caller decides when to read them.

    Attributes:
        loss: Scalar. On several ranks the loss is the mean over the ranks.
        terms: Weighted loss terms. The loss is their sum.
        grad_norm: Norm of the gradient before clipping.
        num_images: Images of the step over all ranks, without padding.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    grad_norm: Tensor
    num_images: int

    def over_ranks(self) -> dict[str, float]:
        """Return loss, gradient norm and loss terms as numbers over all ranks; every rank calls it in the same step."""
        means = sum_over_ranks(torch.stack([self.loss, *self.terms.values()])) / world_size()
        loss, *terms = means.tolist()
        named = {f"loss/{name}": value for name, value in zip(self.terms, terms, strict=True)}
        return {"loss": loss, "grad_norm": float(self.grad_norm), **named}


class NonFiniteError(Exception):
    """A non-finite loss or gradient on any rank. It is raised on every rank, before the optimizer step.

    Attributes:
        ranks: For each rank the images of its micro-batches with a non-finite term, and its loss terms. All images, if
            every term is finite and only the gradient is not.
    """

    def __init__(self, ranks: Sequence[tuple[tuple[int, ...], dict[str, float]]]) -> None:
        named = [(image_ids, terms) for image_ids, terms in ranks if image_ids]
        images = [image_id for image_ids, _ in named for image_id in image_ids]
        super().__init__(f"images {images}, loss terms {' and '.join(str(terms) for _, terms in named)}")
        self.ranks = list(ranks)


def train_step(
    network: nn.Module,
    criterion: DetectionLoss,
    micro_batches: Sequence[Batch],
    optimizer: torch.optim.Optimizer,
    args: HasAmp,
    clip: float,
    num_boxes: float | None = None,
) -> StepResult:
    """Make one step from one or more micro-batches.

    The loss of every micro-batch is normalised by the box count of the whole step, over all micro-batches and all
    ranks, so 16 images at once, four times four, or eight on each of two ranks are the same step.

    Args:
        network: In training mode.
        criterion: Loss of float32 outputs.
        micro_batches: Moved to the network's device one at a time.
        optimizer: Its learning rates are set already.
        args: Precision, for `amp_context`.
        clip: Max gradient norm; 0 disables clipping.
        num_boxes: Normaliser of the loss; `None`: counted over the micro-batches and the ranks.

    Raises:
        NonFiniteError: The loss or the gradient is non-finite. The weights are unchanged.
        OutOfMemoryError: A pass did not fit into memory. The weights are unchanged, the gradients are cleared.
        SharedError: A pass failed otherwise, on any rank. The weights are unchanged.
        HalfUpdatedError: The optimizer step ran out of memory, on any rank; the weights are partly updated.
    """
    lap("data")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    # Count the boxes. The normaliser is the same in every micro-batch and on every rank.
    counted_boxes, num_images = _count(criterion, micro_batches)
    normaliser = counted_boxes if num_boxes is None else num_boxes
    try:
        # Run the forward and backward passes, then average the gradients over the ranks.
        passes = _forward_backward(network, criterion, micro_batches, normaliser, args)
        average_gradients(parameters)
        lap("average")
        terms = {name: torch.stack([values[name] for values in passes]).sum() for name in passes[0]}
        grad_norm = nn.utils.clip_grad_norm_(parameters, clip if clip > 0 else float("inf"))
        loss = torch.stack(list(terms.values())).sum()
        # Refuse a non-finite step. This reads from the device; box matching on the host has waited for it already.
        if max_over_ranks(int(not torch.isfinite(loss + grad_norm))):
            mine = _suspects(micro_batches, passes), {name: float(value) for name, value in terms.items()}
            raise NonFiniteError(all_gather_objects(mine))
        lap("clip")
        # Update the weights.
        _optimizer_step(optimizer)
    finally:
        optimizer.zero_grad(set_to_none=True)
        lap("optimizer")
    return StepResult(loss, terms, grad_norm, num_images)


def _forward_backward(
    network: nn.Module, criterion: DetectionLoss, micro_batches: Sequence[Batch], num_boxes: float, args: HasAmp
) -> list[dict[str, Tensor]]:
    """Accumulate the gradients of the micro-batches; return the loss terms of each, if no pass failed on any rank.

    Raises:
        OutOfMemoryError: A pass did not fit into memory, on any rank.
        SharedError: A pass failed otherwise, on any rank.
    """
    device = next(network.parameters()).device
    passes: list[dict[str, Tensor]] = []
    failure, is_out = None, False
    try:
        for batch in micro_batches:
            passes.append(_accumulate(network, criterion, batch.to(device), num_boxes, args))
    except Exception as error:
        is_out = isinstance(error, RuntimeError) and is_out_of_memory(error)
        failure = None if is_out else error  # handled below, where no traceback holds the tensors
    agree(failure)
    if max_over_ranks(int(is_out)):
        raise OutOfMemoryError
    return passes


def _optimizer_step(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer step on every rank.

    Raises:
        HalfUpdatedError: It ran out of memory on a rank, whose weights are partly updated.
    """
    with noting_shortage() as shortage:
        optimizer.step()
    if max_over_ranks(int(shortage.is_out)):
        raise HalfUpdatedError(
            "out of memory in the middle of the optimizer step: the weights are partly updated, and are not saved. "
            f"Resume from the newest checkpoint with a smaller train.micro_batch. {RUN_REMEDIES}"
        )


def _accumulate(
    network: nn.Module, criterion: DetectionLoss, batch: Batch, num_boxes: float, args: HasAmp
) -> dict[str, Tensor]:
    """Add the gradient of one micro-batch and return its loss terms."""
    lap("move")
    outputs = forward_in_amp(network, batch.images, args)
    lap("forward")
    loss, terms = criterion(outputs, batch.targets, num_boxes=num_boxes)
    lap("loss")
    weight = 0.0 if batch.is_padding else 1.0
    (loss * weight).backward()
    lap("backward")
    return {name: value * weight for name, value in terms.items()}


def _count(criterion: DetectionLoss, micro_batches: Sequence[Batch]) -> tuple[float, int]:
    """Return the normaliser (boxes over all ranks, divided by the number of ranks) and the number of images.

    Both are counted on the host, without waiting for a device.
    """
    counted = [batch for batch in micro_batches if not batch.is_padding]
    boxes, images = sum(criterion.count_boxes(b.targets) for b in counted), sum(len(b.image_ids) for b in counted)
    if world_size() == 1:
        return float(max(1, boxes)), images
    num_boxes, num_images = sum_over_ranks(torch.tensor([boxes, images], dtype=torch.float64)).tolist()
    return max(1.0, num_boxes) / world_size(), round(num_images)


def _suspects(micro_batches: Sequence[Batch], passes: Sequence[dict[str, Tensor]]) -> tuple[int, ...]:
    """Return the images of the micro-batches with a non-finite term; all images if no rank has such a term."""
    broken = [not all(bool(torch.isfinite(value)) for value in terms.values()) for terms in passes]
    is_loss_broken = max_over_ranks(int(any(broken)))
    return tuple(
        image_id
        for batch, is_broken in zip(micro_batches, broken, strict=True)
        if is_broken or not is_loss_broken
        for image_id in batch.image_ids
    )
