"""The training loop: one visible loop that decides when to log, evaluate, save and stop."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import nn

from rfdetr_hwd.amp import HasAmp
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.errors import Interrupted
from rfdetr_hwd.runtime.distributed import SharedError, agree, is_main, max_over_ranks, sum_over_ranks, world_size
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.runtime.memory import MemoryShortageError
from rfdetr_hwd.training.attempts import Bundle, make_update
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.speed import Speed
from rfdetr_hwd.training.trackers import Tracker
from rfdetr_hwd.training.train_step import Criterion, StepResult

Ending = Literal["completed", "early_stopping"]
"""How a run ends by itself."""

logger = logging.getLogger(__name__)


class EpochLoader(Protocol):
    """Serves an epoch's updates as lists of micro-batches, from any update on."""

    @property
    def updates_per_epoch(self) -> int: ...
    def epoch(self, epoch: int, first_update: int = 0) -> Iterator[list[Any]]: ...


@dataclass(frozen=True)
class Plan:
    """When things are due, and how an update is made.

    Attributes:
        epochs: Epochs of the run.
        evaluate_every: Epochs between evaluations.
        save_every: Epochs between checkpoints.
        save_every_updates: Updates between checkpoints within an epoch; `None`: none.
        log_every: Updates between records of the loss.
        clip: Largest gradient norm; 0 does not clip.
        early_stop: Evaluations without a better AP after which the run ends.
    """

    epochs: int
    evaluate_every: int
    save_every: int
    save_every_updates: int | None
    log_every: int
    clip: float
    early_stop: int | None


@dataclass(frozen=True)
class LoopParts:
    """What the loop calls out to. Every rank calls each of them in the same place.

    Attributes:
        loader: The training images; it may raise `Interrupted` while it waits for them.
        criterion: The loss.
        evaluate: Measures a network; returns figures with `AP` among them, `None` where there is nothing to measure.
        save: Writes a checkpoint of the state.
        amend: Enters the figures of the state in the checkpoint that was saved at the same step.
        bundle: Writes what reproduces an update that failed: state, micro-batches, error, random state at its start.
        tracker: Receives the numbers of logged updates and of evaluations.
        stop: Asked after every update, and by `evaluate` after every batch.
        speed: Told of every update.
    """

    loader: EpochLoader
    criterion: Criterion
    evaluate: Callable[[nn.Module], dict[str, float | None]]
    save: Callable[[TrainState], None]
    amend: Callable[[TrainState], None]
    bundle: Bundle
    tracker: Tracker
    stop: StopRequest
    speed: Speed = field(default_factory=Speed)


def fit(learner: Learner, parts: LoopParts, plan: Plan, state: TrainState, args: HasAmp) -> TrainState:
    """Train until the last epoch, or until AP has stopped rising.

    An epoch that is to be evaluated is saved first, so that nothing which goes wrong in the evaluation costs training.

    Args:
        learner: Network, optimiser, schedule and average; changed in place.
        parts: Data, loss, evaluation, saving, tracking, stopping.
        plan: When things are due.
        state: Where to start: a new `TrainState`, or that of a checkpoint whose `learner` is restored.
        args: Precision, for `amp_context`.

    Returns:
        The state at the end.

    Raises:
        Interrupted: The run was asked to stop; a checkpoint of the state is there, unless no update was made.
        NonFiniteError: A loss or gradient is not finite.
        HalfUpdatedError: The optimizer step ran out of memory.
        MemoryShortageError: An update does not fit into memory; the state before it is saved.
        OtherRankError: Another rank failed; if it did so while it loaded images or in its passes, the state is saved.
        Exception: Whatever fails here; while images are loaded or in the passes, the state is saved.
    """
    learner.network.train()
    keep = _Keeper(parts.save, state.step)
    while ending(plan, state) is None:
        _stop_if_asked(parts, keep, state)
        if state.is_evaluation_due:
            _evaluate(learner, parts, state)
            continue
        parts.speed.start()
        for micro_batches in _updates(parts, keep, state):
            factor = learner.schedule.apply(learner.optimizer, state.step)
            try:
                result = make_update(learner, parts, state, micro_batches, plan.clip, args)
            except MemoryShortageError:
                keep.if_possible(state)
                raise
            except SharedError as error:
                keep.if_possible(state)
                raise error.original from None
            parts.speed.stop(result.num_images)
            if state.step % plan.log_every == 0:
                rates = {"lr_factor": factor, **learner.learning_rates()}
                parts.tracker.log(state.step, {**_step_values(result, state), **rates})
            if state.update_in_epoch == parts.loader.updates_per_epoch:
                _end_epoch(plan, state)
            if _is_save_due(plan, state):
                keep(state)
            _stop_if_asked(parts, keep, state)
            parts.speed.start()
    return state


@dataclass
class _Keeper:
    """Saves a state, once."""

    save: Callable[[TrainState], None]
    saved_step: int

    def __call__(self, state: TrainState) -> None:
        if state.step != self.saved_step:
            self.save(state)
            self.saved_step = state.step

    def if_possible(self, state: TrainState) -> None:
        """Save where the run is about to end with an error, which must not be hidden by another one."""
        try:
            self(state)
        except Exception as failure:
            logger.warning("step %d is not saved: %s", state.step, failure)
        else:
            if self.saved_step and is_main():
                logger.warning("what was trained is saved, at step %d", self.saved_step)


def _stop_if_asked(parts: LoopParts, keep: _Keeper, state: TrainState) -> None:
    code = parts.stop.agreed_code()
    if code:
        keep(state)
        raise Interrupted(code)


def _updates(parts: LoopParts, keep: _Keeper, state: TrainState) -> Iterator[list[Any]]:
    """Yield the updates of the epoch under way.

    Whoever waits for a batch when it is asked to stop, or cannot get one, says so, and all ranks save and stop there.
    """
    updates = parts.loader.epoch(state.epoch, state.update_in_epoch)
    while True:
        micro_batches, failure, code = None, None, 0
        try:
            micro_batches = next(updates, None)
        except Interrupted as interruption:
            code = interruption.status
        except Exception as error:
            failure = error
        try:
            agree(failure)
        except SharedError as error:
            keep.if_possible(state)
            raise error.original from None
        code = max_over_ranks(code)
        if code:
            keep(state)
            raise Interrupted(code)
        if micro_batches is None:
            return
        yield micro_batches


def ending(plan: Plan, state: TrainState) -> Ending | None:
    """Return why a run is over: the last epoch is done and evaluated, or AP has stopped rising; `None`: it is not."""
    if state.is_evaluation_due:
        return None
    if state.epoch >= plan.epochs:
        return "completed"
    is_stalled = plan.early_stop is not None and state.evaluations_since_best >= plan.early_stop
    return "early_stopping" if is_stalled else None


def _end_epoch(plan: Plan, state: TrainState) -> None:
    state.epoch += 1
    state.update_in_epoch = 0
    state.is_evaluation_due = state.epoch == plan.epochs or state.epoch % plan.evaluate_every == 0


def _is_save_due(plan: Plan, state: TrainState) -> bool:
    if state.update_in_epoch == 0:
        return state.is_evaluation_due or state.epoch % plan.save_every == 0
    return plan.save_every_updates is not None and state.step % plan.save_every_updates == 0


def _evaluate(learner: Learner, parts: LoopParts, state: TrainState) -> None:
    """Measure every network and record the figures."""
    figures = {kind: parts.evaluate(network) for kind, network in learner.networks().items()}
    state.figures = {f"{kind}/{name}": value for kind, values in figures.items() for name, value in values.items()}
    state.figures_step = state.step
    measured = {kind: ap for kind, values in figures.items() if (ap := values["AP"]) is not None}
    if measured:  # what is none is no AP to compare with
        weights = max(measured, key=measured.__getitem__)
        is_best = state.best_ap is None or measured[weights] > state.best_ap
        if is_best:
            state.best_ap, state.best_step, state.best_weights = measured[weights], state.step, weights
        state.evaluations_since_best = 0 if is_best else state.evaluations_since_best + 1
    state.is_evaluation_due = False
    parts.tracker.log(state.step, {"epoch": state.epoch, **state.figures})
    parts.amend(state)


def _step_values(result: StepResult, state: TrainState) -> dict[str, float]:
    """Return the numbers of an update, over all ranks: every rank comes here in the same update."""
    names = list(result.terms)
    means = sum_over_ranks(torch.stack([result.loss, *result.terms.values()])) / world_size()
    loss, *terms = means.tolist()
    values = {"epoch": state.epoch, "loss": loss, "grad_norm": float(result.grad_norm)}
    return values | {f"loss/{name}": value for name, value in zip(names, terms, strict=True)}
