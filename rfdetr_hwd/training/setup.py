"""The parts of a run: learner, trackers, what is saved of them, and what is written down about them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rfdetr_hwd.amp import describe_precision
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.run_log import add_end
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.schema import Config, TrainSection
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.loader import TrainLoader
from rfdetr_hwd.errors import Interrupted
from rfdetr_hwd.model.build import BuiltModel
from rfdetr_hwd.model.rfdetr import learning_rates, rate_name
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.environment import describe_start, now
from rfdetr_hwd.training.auto_batch import largest_micro_batch
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.optimizer import Schedule, WeightAverage, build_adamw
from rfdetr_hwd.training.progress import ConsoleTracker
from rfdetr_hwd.training.replay import StoredBatch, inputs_of
from rfdetr_hwd.training.speed import Speed
from rfdetr_hwd.training.trackers import JsonLinesTracker, NullTracker, TensorBoardTracker, Tracker, Trackers
from rfdetr_hwd.training.train_step import Criterion, MicroBatch, NonFiniteError
from rfdetr_hwd.training.trainer import Plan, ending

logger = logging.getLogger(__name__)


TRAINING_DATA, VALIDATION_DATA = "training_data", "validation_data"
"""Entries of a checkpoint's record that say which data it belongs to."""


def build_learner(train: TrainSection, model: BuiltModel, updates_per_epoch: int, state: TrainState) -> Learner:
    """Return network, optimiser, schedule and average of a run; the ranks start from the weights of rank 0."""
    network = model.network
    distributed.broadcast_weights(network)
    rates = learning_rates(
        network,
        model.stock.config,
        lr=train.lr,
        lr_encoder=train.lr_encoder,
        layer_decay=train.encoder_layer_decay,
        component_decay=train.component_decay,
        weight_decay=train.weight_decay,
    )
    return Learner(
        network=network,
        optimizer=build_adamw(rates),
        schedule=Schedule(
            train.schedule,
            warmup_steps=round(train.warmup_epochs * updates_per_epoch),
            total_steps=state.total_steps(train.epochs, updates_per_epoch),
            final_factor=train.lr_final_factor,
        ),
        average=WeightAverage(network, train.ema_decay, train.ema_tau) if train.ema else None,
        rate_name=rate_name,
    )


def build_plan(config: Config) -> Plan:
    """Return when things of a run are due."""
    return Plan(
        epochs=config.train.epochs,
        evaluate_every=config.evaluation.every,
        save_every=config.output.save_every,
        save_every_updates=config.output.save_every_updates,
        log_every=config.train.log_every,
        clip=config.train.clip,
        early_stop=config.train.early_stop,
    )


def build_tracker(
    config: Config, folder: RunFolder, state: TrainState, updates_per_epoch: int, speed: Speed
) -> Tracker:
    """Return what receives the numbers: on rank 0 the files and the console, elsewhere nothing."""
    if not distributed.is_main():
        return NullTracker()
    total = state.total_steps(config.train.epochs, updates_per_epoch)
    measured = [ap for kind in ("ema", "plain") if (ap := state.figures.get(f"{kind}/AP")) is not None]
    trackers: list[Tracker] = [
        JsonLinesTracker(folder.metrics_file, state.step, state.is_evaluation_due),
        ConsoleTracker(state.step, total, config.train.epochs, speed, max(measured, default=None)),
    ]
    if "tensorboard" in config.output.trackers:
        trackers.append(TensorBoardTracker(folder.path / "tensorboard", state.step))
    return Trackers(trackers)


def describe_model(config: Config, data: DetectionData, val_data: DetectionData) -> dict[str, Any]:
    """Return what a checkpoint needs to rebuild its model, and to know its classes and what it was trained on."""
    return {
        "config": config.model_dump(mode="json"),
        "class_names": list(data.class_names),
        "category_ids": list(data.category_ids),
        TRAINING_DATA: _identity(data),
        VALIDATION_DATA: _identity(val_data),
    }


def _identity(data: DetectionData) -> dict[str, Any]:
    """Return what tells one split from another, and gives a first idea of how they differ."""
    return {"images": len(data), "boxes": len(data.labels), "sha256": data.fingerprint}


@dataclass(frozen=True)
class Saver:
    """Writes checkpoints of a run on rank 0; every rank calls it in the same place.

    Attributes:
        folder: The run folder.
        learner: What is saved.
        description: Of the model, from `describe_model`.
        keep_last: Checkpoints kept beside the best one.
    """

    folder: RunFolder
    learner: Learner
    description: Mapping[str, Any]
    keep_last: int

    def save(self, state: TrainState) -> None:
        """Write a checkpoint; the other ranks contribute their random generators and wait."""
        training = self.learner.training_state()
        if distributed.is_main():
            self.folder.save(state, self.description, self._weights(), training, self.keep_last)
        distributed.barrier()

    def amend(self, state: TrainState) -> None:
        """Enter the figures of a state in its checkpoint."""
        if distributed.is_main():
            self.folder.amend(state, self.keep_last)
        distributed.barrier()

    def bundle(
        self, state: TrainState, micro_batches: Sequence[MicroBatch], error: NonFiniteError, random: dict[str, Any]
    ) -> None:
        """Write what reproduces an update that failed: its inputs on every rank, weights and random states."""
        ranks = distributed.gather_objects((inputs_of(micro_batches, distributed.rank()), random))
        if distributed.is_main():
            inputs = {name: tensor for tensors, _ in ranks for name, tensor in tensors.items()}
            training = {"random": [random_of_rank for _, random_of_rank in ranks]}
            weights = {"plain": self.learner.network.state_dict()}
            found = [{"image_ids": list(image_ids), "terms": _as_text(terms)} for image_ids, terms in error.ranks]
            description = {**self.description, "non_finite": found}
            self.folder.save_bundle(state, description, weights, training, inputs)
        distributed.barrier()

    def _weights(self) -> dict[str, dict[str, Tensor]]:
        return {kind: network.state_dict() for kind, network in self.learner.networks().items()}


def choose_micro_batch(
    config: Config, learner: Learner, criterion: Criterion, loader: TrainLoader, data: DetectionData
) -> int:
    """Return the images of one forward pass that `train.micro_batch=auto` stands for; 0: the rank's whole share.

    On a GPU it is tried: with the largest scale, and with as many objects in each image as the densest one has.
    """
    device = next(learner.network.parameters()).device
    share = -(-config.train.batch_size // distributed.world_size())
    if device.type != "cuda":
        if distributed.is_main():
            logger.info("train.micro_batch=auto: on a CPU it is the rank's whole share, %d images", share)
        return 0
    side, densest = max(loader.order.resolutions), max(len(data.objects(row)[1]) for row in range(len(data)))

    def sample(size: int) -> StoredBatch:
        target = {"labels": torch.zeros(densest, dtype=torch.int64), "boxes": torch.rand(densest, 4) * 0.4 + 0.1}
        return StoredBatch(torch.rand(size, 3, side, side), [target] * size, tuple(range(size)), True)

    size = largest_micro_batch(learner.network, learner.optimizer, criterion, sample, share, config)
    if distributed.is_main():
        logger.info("train.micro_batch=auto: %d of %d images fit at %d px with %d objects", size, share, side, densest)
    return size


def describe_run(
    config: Config,
    learner: Learner,
    loader: TrainLoader,
    data: DetectionData,
    val_data: DetectionData,
    state: TrainState,
) -> dict[str, Any]:
    """Return an entry of run.json: how the run was started, and every number that follows from its configuration."""
    share = -(-config.train.batch_size // distributed.world_size())
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in learner.network.parameters()]
    groups = [
        {
            "lr": group["base_lr"],
            "weight_decay": group["weight_decay"],
            "parameters": sum(parameter.numel() for parameter in group["params"]),
        }
        for group in learner.optimizer.param_groups
    ]
    return {
        "step": state.step,
        **describe_start(),
        "config": config.model_dump(mode="json"),
        "precision": describe_precision(config, next(learner.network.parameters()).device),
        "derived": {
            "resolutions": list(loader.order.resolutions),
            "updates_per_epoch": loader.updates_per_epoch,
            "total_updates": learner.schedule.total_steps,
            "warmup_updates": learner.schedule.warmup_steps,
            "world_size": distributed.world_size(),
            "micro_batch": state.micro_batch or loader.micro_batch or share,
            "parameters": sum(size for size, _ in sizes),
            "trained_parameters": sum(size for size, is_trained in sizes if is_trained),
            "learning_rate_groups": groups,
        },
        "data": {
            "root": config.data.root,
            "classes": list(data.class_names),
            TRAINING_DATA: _identity(data),
            VALIDATION_DATA: _identity(val_data),
        },
    }


def describe_ending(plan: Plan, state: TrainState) -> str:
    """Return why and when a run ended by itself; empty: it has not."""
    match ending(plan, state):
        case "completed":
            return f"the run is complete: {state.epoch} epochs, {state.step} steps"
        case "early_stopping":
            since = state.evaluations_since_best
            return (
                f"early stopping at step {state.step}, after epoch {state.epoch} of {plan.epochs}: the last "
                f"{f'{since} evaluations' if since > 1 else 'evaluation'} did not exceed the best AP "
                f"({state.best_ap or 0:.4f}, of step {state.best_step}); train.early_stop={plan.early_stop}"
            )
    return ""


@contextmanager
def recorded_end(folder: RunFolder, plan: Plan, state: TrainState) -> Iterator[None]:
    """Enter in run.json how the start of a run ended; of one that was killed nothing is entered."""
    reason, message = "failed", ""
    try:
        yield
        reason, message = ending(plan, state) or "failed", describe_ending(plan, state)
    except Interrupted as interruption:
        reason, message = "interrupted", f"exit status {interruption.status}"
        raise
    except BaseException as error:
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        raise
    finally:
        best = {"ap": state.best_ap, "step": state.best_step, "weights": state.best_weights}
        entry = {"reason": reason, "message": message, "step": state.step, "epoch": state.epoch, "best": best}
        if distributed.is_main():
            add_end(folder.log_file, {"time": now(), **entry})


def _as_text(terms: Mapping[str, float]) -> dict[str, str]:
    """Return numbers as text: JSON has no NaN."""
    return {name: repr(value) for name, value in terms.items()}
