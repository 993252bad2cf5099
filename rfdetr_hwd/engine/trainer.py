"""The training loop: one visible loop that decides when to log, evaluate, save and stop."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from rfdetr_hwd.amp import HasAmp
from rfdetr_hwd.engine.checkpoint import TrainState, random_state, restore_random_state
from rfdetr_hwd.engine.distributed import gather_objects, rank, sum_over_ranks, world_size
from rfdetr_hwd.engine.optimizer import Schedule
from rfdetr_hwd.engine.tracking import Tracker
from rfdetr_hwd.engine.train_step import Criterion, MicroBatch, StepResult, train_step


class EpochLoader(Protocol):
    """Serves an epoch's updates as lists of micro-batches, from any update on."""

    def epoch(self, epoch: int, first_update: int = 0) -> Iterator[list[Any]]: ...


@dataclass(frozen=True)
class Plan:
    """When things are due, and how an update is made.

    Attributes:
        epochs: Epochs of the run.
        evaluate_every: Epochs between evaluations.
        save_every: Epochs between checkpoints.
        log_every: Updates between records of the loss.
        clip: Largest gradient norm; 0 does not clip.
        early_stop: Evaluations without a better AP after which the run ends.
    """

    epochs: int
    evaluate_every: int
    save_every: int
    log_every: int
    clip: float
    early_stop: int | None


@dataclass
class Learner:
    """What changes with every update.

    Attributes:
        network: The network, without a distributed wrapper.
        wrapped: The same network as the step calls it.
        optimizer: AdamW.
        schedule: Learning rate by step.
        average: Moving average of the weights, if there is one.
    """

    network: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    average: AveragedModel | None

    def networks(self) -> dict[str, nn.Module]:
        """Return the networks to evaluate and save: `ema`, if there is one, and `plain`."""
        average = {"ema": self.average.module} if self.average is not None else {}
        return {**average, "plain": self.network}

    def training_state(self, state: TrainState) -> dict[str, Any]:
        """Return what a resumed run needs beside the weights. Every rank calls it: each has random generators."""
        generators = gather_objects(random_state())
        return {"optimizer": self.optimizer.state_dict(), "random": generators, "state": asdict(state)}

    def restore(self, training: dict[str, Any], weights: Callable[[str], dict[str, Tensor]]) -> TrainState:
        """Put back everything that `training_state` and the weights hold, and return the train state.

        With another number of ranks than the saved run had, each generator is seeded anew from the step and the rank.

        Args:
            training: From `training_state`.
            weights: Returns the state dict of `ema` or `plain`.
        """
        for kind, network in self.networks().items():
            network.load_state_dict(weights(kind))
        self.optimizer.load_state_dict(training["optimizer"])
        state = TrainState(**training["state"])
        if self.average is not None:
            self.average.n_averaged.fill_(state.step)
        if len(training["random"]) == world_size():
            restore_random_state(training["random"][rank()])
        else:
            torch.manual_seed(state.step * world_size() + rank())
        return state


@dataclass(frozen=True)
class LoopParts:
    """What the loop calls out to.

    Attributes:
        loader: The training images.
        criterion: The loss.
        evaluate: Measures a network; returns figures with `AP` among them.
        save: Writes a checkpoint of the state; every rank calls it.
        tracker: Receives the numbers of logged updates and of evaluations.
        device: Where the network is.
    """

    loader: EpochLoader
    criterion: Criterion
    evaluate: Callable[[nn.Module], dict[str, float]]
    save: Callable[[TrainState], None]
    tracker: Tracker
    device: torch.device


def fit(learner: Learner, parts: LoopParts, plan: Plan, state: TrainState, args: HasAmp) -> TrainState:
    """Train until the last epoch, or until AP has stopped rising.

    Args:
        learner: Network, optimiser, schedule and average; changed in place.
        parts: Data, loss, evaluation, saving, tracking.
        plan: When things are due.
        state: Where to start: a new `TrainState`, or that of a checkpoint whose `learner` is restored.
        args: Precision, for `amp_context`.

    Returns:
        The state at the end.

    Raises:
        NonFiniteError: A loss or gradient is not finite.
    """
    learner.wrapped.train()
    while not is_over(plan, state):
        for micro_batches in parts.loader.epoch(state.epoch, state.update_in_epoch):
            factor = learner.schedule.apply(learner.optimizer, state.step)
            on_device: list[MicroBatch] = [batch.to(parts.device) for batch in micro_batches]
            result = train_step(learner.wrapped, parts.criterion, on_device, learner.optimizer, args, plan.clip)
            state.step += 1
            state.update_in_epoch += 1
            if learner.average is not None:
                learner.average.update_parameters(learner.network)
            if state.step % plan.log_every == 0:
                parts.tracker.log(state.step, _step_values(result, factor, state))
        state.epoch += 1
        state.update_in_epoch = 0
        is_best = False
        if state.epoch == plan.epochs or state.epoch % plan.evaluate_every == 0:
            is_best = _evaluate(learner, parts, state)
        if is_best or is_over(plan, state) or state.epoch % plan.save_every == 0:
            parts.save(state)
    return state


def is_over(plan: Plan, state: TrainState) -> bool:
    """Return whether the last epoch is done, or AP has stopped rising."""
    is_stalled = plan.early_stop is not None and state.evaluations_since_best >= plan.early_stop
    return state.epoch >= plan.epochs or is_stalled


def _evaluate(learner: Learner, parts: LoopParts, state: TrainState) -> bool:
    """Measure every network, record the figures, and return whether one of them is the best so far."""
    figures = {kind: parts.evaluate(network) for kind, network in learner.networks().items()}
    state.figures = {f"{kind}/{name}": value for kind, values in figures.items() for name, value in values.items()}
    state.figures_step = state.step
    parts.tracker.log(state.step, {"epoch": state.epoch, **state.figures})
    weights, ap = max(((kind, values["AP"]) for kind, values in figures.items()), key=lambda item: item[1])
    is_best = ap > state.best_ap
    if is_best:
        state.best_ap, state.best_step, state.best_weights = ap, state.step, weights
    state.evaluations_since_best = 0 if is_best else state.evaluations_since_best + 1
    return is_best


def _step_values(result: StepResult, factor: float, state: TrainState) -> dict[str, float]:
    """Return the numbers of an update, over all ranks: every rank comes here in the same update."""
    names = list(result.terms)
    means = sum_over_ranks(torch.stack([result.loss, *result.terms.values()])) / world_size()
    loss, *terms = means.tolist()
    values = {"epoch": state.epoch, "loss": loss, "grad_norm": float(result.grad_norm), "lr_factor": factor}
    return values | {f"loss/{name}": value for name, value in zip(names, terms, strict=True)}
