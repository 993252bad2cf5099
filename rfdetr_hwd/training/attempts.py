"""Make a step; retry it with smaller micro-batches where it does not fit into memory."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from rfdetr_hwd.amp import HasAmp
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.runtime.distributed import SharedError, is_main, max_over_ranks
from rfdetr_hwd.runtime.memory import RUN_REMEDIES, MemoryShortageError, OutOfMemoryError
from rfdetr_hwd.runtime.random_state import random_state, restore_random_state
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.train_step import Criterion, MicroBatch, NonFiniteError, StepResult, train_step

Bundle = Callable[[TrainState, Sequence[MicroBatch], NonFiniteError, dict[str, Any]], None]

logger = logging.getLogger(__name__)


class UpdateParts(Protocol):
    """What a step needs besides learner and images; see `rfdetr_hwd.training.trainer.LoopParts`."""

    @property
    def criterion(self) -> Criterion: ...
    @property
    def bundle(self) -> Bundle: ...


def make_update(
    learner: Learner,
    parts: UpdateParts,
    state: TrainState,
    micro_batches: Sequence[MicroBatch],
    clip: float,
    args: HasAmp,
) -> StepResult:
    """Make one step; one that does not fit into memory is retried with half the micro-batch, down to one image.

    A retry starts from the same random state. The size that fits is kept in the state.

    Raises:
        MemoryShortageError: A micro-batch of one image does not fit; weights, state and generators are unchanged.
        SharedError: A pass failed, on any rank; weights, state and random generators are unchanged.
        HalfUpdatedError: The optimizer step ran out of memory; the weights are partly updated.
        NonFiniteError: The loss or the gradient is not finite.
    """
    start = random_state()
    while True:
        size = state.micro_batch or max(len(batch.image_ids) for batch in micro_batches)
        pieces = [piece for batch in micro_batches for piece in batch.cut(size)]
        try:
            result = train_step(learner.network, parts.criterion, pieces, learner.optimizer, args, clip)
        except NonFiniteError as error:
            try:
                parts.bundle(state, pieces, error, start)
            except UserError as failure:  # which must not hide why the run stops
                logger.warning("what reproduces it was not saved: %s", failure)
            raise
        except SharedError:
            restore_random_state(start)
            raise
        except OutOfMemoryError:
            largest = max_over_ranks(max(len(piece.image_ids) for piece in pieces))
        else:
            state.step += 1
            state.update_in_epoch += 1
            if learner.average is not None:
                learner.average.update(learner.network, state.step)
            return result
        torch.cuda.empty_cache()
        restore_random_state(start)
        if largest == 1:
            raise MemoryShortageError(
                f"step {state.step + 1} does not fit into memory, even with train.micro_batch=1. {RUN_REMEDIES}; or "
                "start a new run with a lower model.resolution"
            )
        state.micro_batch = -(-largest // 2)
        if is_main():
            logger.warning(
                "out of memory at step %d with micro-batch %d; retrying with train.micro_batch=%d (same global batch), "
                "which the run keeps",
                *(state.step + 1, largest, state.micro_batch),
            )
