"""One optimizer step over its micro-batches. The training loop decides when to log, save or stop.

Nothing here waits for a GPU, except where boxes are matched. So whether a loss is finite is known one step later: until
then the device alone knows, and does not update the weights of a step that is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.runtime.distributed import SharedError, raise_shared, share, sum_over_ranks, world_size
from rfdetr_hwd.runtime.gradient_averaging import GradientAverager
from rfdetr_hwd.runtime.laps import lap
from rfdetr_hwd.runtime.memory import (
    RUN_REMEDIES,
    HalfUpdatedError,
    OutOfMemoryError,
    is_out_of_memory,
    noting_shortage,
)
from rfdetr_hwd.runtime.random_state import random_state, restore_random_state
from rfdetr_hwd.training.non_finite import Suspects
from rfdetr_hwd.training.unsettled import Answer, Unsettled


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


@dataclass(frozen=True)
class Totals:
    """What a step counts, over its micro-batches and all ranks.

    Attributes:
        num_boxes: Normaliser of the loss: boxes, divided by the number of ranks.
        num_images: Images, without padding.
    """

    num_boxes: float
    num_images: int

    @classmethod
    def over(cls, ranks: Sequence[tuple[int, int]]) -> "Totals":
        """Return the totals, given boxes and images of each rank."""
        return cls(max(1.0, float(sum(boxes for boxes, _ in ranks))) / len(ranks), sum(images for _, images in ranks))


def count(criterion: DetectionLoss, batches: Sequence[Batch]) -> tuple[int, int]:
    """Return the boxes and images of batches, without padding; no device is waited for."""
    counted = [batch for batch in batches if not batch.is_padding]
    return sum(criterion.count_boxes(b.targets) for b in counted), sum(len(b.image_ids) for b in counted)


@dataclass
class TrainStep:
    """Makes optimizer steps.

    Attributes:
        network: In training mode.
        criterion: Loss of float32 outputs.
        optimizer: A fused one, which skips an update on the device. Its learning rates are set before every step.
        args: Precision, for `amp_context`.
        clip: Max gradient norm; 0 disables clipping.
        averager: Of the gradients of the network.
    """

    network: nn.Module
    criterion: DetectionLoss
    optimizer: torch.optim.Optimizer
    args: HasAmp
    clip: float
    averager: GradientAverager = field(default_factory=lambda: GradientAverager([]))
    _last: Unsettled | None = field(default=None, init=False)

    def __call__(self, micro_batches: Sequence[Batch], totals: Totals | None = None) -> StepResult:
        """Make one step from one or more micro-batches.

        The loss of every micro-batch is normalised by the box count of the whole step, over all micro-batches and all
        ranks, so 16 images at once, four times four, or eight on each of two ranks are the same step.

        Args:
            micro_batches: Moved to the network's device one at a time.
            totals: What all ranks count together; `None`: it is counted here.

        Raises:
            NonFiniteError: The loss or the gradient of the step before is non-finite. The weights are those from before
                that step.
            HalfUpdatedError: The step before ran out of memory in its update, on any rank; weights are partly updated.
            OutOfMemoryError: A pass did not fit into memory. Weights and random generators are unchanged.
            SharedError: A pass failed otherwise, on any rank. Weights and random generators are unchanged.
        """
        lap("data")
        # Count the boxes. The normaliser is the same in every micro-batch and on every rank.
        if totals is None:
            totals = Totals.over([(boxes, images) for boxes, images in share(*count(self.criterion, micro_batches))])
        before = random_state()
        try:
            # Run the forward and backward passes, and average the gradients over the ranks.
            passes = self._passes(micro_batches, totals.num_boxes)
            lap("average")
            terms = {name: torch.stack([values[name] for values in passes]).sum() for name in passes[0]}
            loss = torch.stack(list(terms.values())).sum()
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            grad_norm = nn.utils.clip_grad_norm_(parameters, self.clip if self.clip > 0 else float("inf"))
            is_broken = ~torch.isfinite(loss + grad_norm)
            lap("clip")
            # Update the weights, unless the step is not finite.
            is_half_updated = self._update(is_broken)
        except (OutOfMemoryError, SharedError):
            restore_random_state(before)
            raise
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            lap("optimizer")
        self._last = Unsettled(Answer(is_broken), is_half_updated, Suspects(micro_batches, passes, before))
        return StepResult(loss, terms, grad_norm, totals.num_images)

    def settle(self) -> None:
        """Wait until it is known that the last step can be kept: before the weights or the result are read.

        Every rank calls it in the same place.

        Raises:
            NonFiniteError: Its loss or gradient is non-finite, on any rank. The weights are those from before it.
            HalfUpdatedError: Its update ran out of memory, on any rank; the weights are partly updated.
        """
        if self._last is not None:
            self._judge_last(share(*self._last.flags()))

    def _judge_last(self, ranks: Sequence[tuple[int, ...]]) -> None:
        """Raise if the last step cannot be kept, given its flags on each rank."""
        last, self._last = self._last, None
        if any(is_half_updated for _, is_half_updated in ranks):
            raise HalfUpdatedError(
                "out of memory in the middle of the optimizer step: the weights are partly updated, and are not saved. "
                f"Resume from the newest checkpoint with a smaller train.micro_batch. {RUN_REMEDIES}"
            )
        if last is not None and any(is_broken for is_broken, _ in ranks):
            raise last.suspects.error()

    def _passes(self, micro_batches: Sequence[Batch], num_boxes: float) -> list[dict[str, Tensor]]:
        """Accumulate and average the gradients of the micro-batches; return the loss terms of each.

        Raises:
            OutOfMemoryError: A pass did not fit into memory, on any rank.
            SharedError: A pass failed otherwise, on any rank.
        """
        device = next(self.network.parameters()).device
        passes: list[dict[str, Tensor]] = []
        failure, is_out = None, False
        try:
            with self.averager.sending():
                for number, batch in enumerate(micro_batches, start=1):
                    if number == len(micro_batches):
                        self.averager.begin_last_pass()
                    passes.append(self._accumulate(batch.to(device), num_boxes))
        except Exception as error:
            is_out = isinstance(error, RuntimeError) and is_out_of_memory(error)
            failure = None if is_out else error  # handled below, where no traceback holds the tensors
        # Agree, in one message, on the last step and on this one.
        flags = self._last.flags() if self._last is not None else (0, 0)
        ranks = share(*flags, int(failure is not None), int(is_out), self.averager.used())
        try:
            self._judge_last([(broken, half) for broken, half, *_ in ranks])
            raise_shared(failure, [bool(failed) for _, _, failed, *_ in ranks])
            if any(is_out for _, _, _, is_out, _ in ranks):
                raise OutOfMemoryError
        except BaseException:
            self.averager.discard()
            raise
        self.averager.average(is_same_use=len({used for *_, used in ranks}) == 1)
        return passes

    def _accumulate(self, batch: Batch, num_boxes: float) -> dict[str, Tensor]:
        """Add the gradient of one micro-batch and return its loss terms."""
        lap("move")
        outputs = forward_in_amp(self.network, batch.images, self.args)
        lap("forward")
        loss, terms = self.criterion(outputs, batch.targets, num_boxes=num_boxes)
        lap("loss")
        weight = 0.0 if batch.is_padding else 1.0
        # A non-finite loss makes the gradient NaN, and so its average on every rank: all of them skip the update.
        loss.backward(gradient=weight + 0.0 * loss.detach())
        lap("backward")
        return {name: value * weight for name, value in terms.items()}

    def _update(self, is_broken: Tensor) -> bool:
        """Make the optimizer step, unless the device finds it broken; return whether it ran out of memory."""
        optimizer: Any = self.optimizer
        optimizer.found_inf = is_broken.float()  # how gradient scalers tell fused optimizers to skip an update
        try:
            with noting_shortage() as shortage:
                optimizer.step()
        finally:
            del optimizer.found_inf
        return shortage.is_out
