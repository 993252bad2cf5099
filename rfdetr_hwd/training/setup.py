"""From a configuration to a `Trainer`: build the parts of every run, then create or restore the run."""

import logging
from collections.abc import Sequence, Set
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch

from rfdetr_hwd.checkpoint.read import Checkpoint, CheckpointError, open_checkpoint
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.run_log import add_start
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.changes import ANNOTATIONS, REMEASURING, REORDERING
from rfdetr_hwd.config.load import with_bit_depth
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.holdout import HeldOut
from rfdetr_hwd.data.loader import TrainLoader
from rfdetr_hwd.data.shared_memory import foresee_shortage
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.model.build import BuiltModel, build_model
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.runtime.launch import num_local_ranks
from rfdetr_hwd.runtime.random_state import seed_all
from rfdetr_hwd.training.assignment import prepare_solver
from rfdetr_hwd.training.auto_batch import choose_micro_batch
from rfdetr_hwd.training.class_weights import find_class_weights, say_class_weights
from rfdetr_hwd.training.data import RunData, build_train_loader, read_data
from rfdetr_hwd.training.description import describe_model, describe_run
from rfdetr_hwd.training.first_weights import load_first_weights
from rfdetr_hwd.training.learner import Learner, build_learner
from rfdetr_hwd.training.limits import say_limits, say_overlap
from rfdetr_hwd.training.progress import ConsoleTracker
from rfdetr_hwd.training.resume import carry_over, check_data, load_learner, number_of_ranks
from rfdetr_hwd.training.trackers import JsonLinesTracker, Tracker, Trackers
from rfdetr_hwd.training.tracking.build import open_trackers
from rfdetr_hwd.training.tracking.series import Series
from rfdetr_hwd.training.trainer import Trainer

logger = logging.getLogger(__name__)


class Built(NamedTuple):
    """The parts of every run, new or resumed.

    Attributes:
        config: The configuration, with the bit depth of the images.
        data: The two splits.
        model: With random weights, on the CPU.
        loader: Loader of the training split.
        criterion: The loss, on the device.
        evaluation: Evaluation on the validation split.
        device: Device of this rank.
        stop: Stop requests of the run.
    """

    config: Config
    data: RunData
    model: BuiltModel
    loader: TrainLoader
    criterion: DetectionLoss
    evaluation: Evaluation
    device: torch.device
    stop: StopRequest


def build(config: Config, held_out: HeldOut | None, device: torch.device, stop: StopRequest) -> Built:
    """Build the parts of every run. Nothing is written yet.

    Args:
        config: The configuration.
        held_out: Images that a resumed run held out for validation, if any.
        device: Device of this rank.
        stop: Stop requests of the run.

    Raises:
        UserError: The data cannot be trained or evaluated on, or the model cannot be built.
    """
    # Read the data.
    data = read_data(config, held_out)
    config = with_bit_depth(config, data.train.options.bit_depth)
    weights = find_class_weights(config.train.class_weights, data.train)
    # Build the model. Its seed makes it the same on every rank.
    seed_all(config.train.seed)
    model = build_network(config, data.train)
    if distributed.is_main():
        say_limits(model, data.train, data.val, config.evaluation.max_dets)
        say_overlap(data.train, data.val)
        say_class_weights(weights, data.train)
    # Build the loader, the loss and the evaluation. None of them draws random numbers.
    prepare_solver(device)
    quarantine = RunFolder(Path(config.output.dir)).quarantine_file(distributed.rank())
    loader = build_train_loader(config, model, data.train, quarantine, stop.raise_if_requested_here)
    criterion = DetectionLoss(model.stock, weights).to(device)
    evaluation = Evaluation.build(model, data.val, config, device)
    return Built(config, data, model, loader, criterion, evaluation, device, stop)


def build_network(config: Config, data: DetectionData) -> BuiltModel:
    """Build the model with random weights, and print a summary."""
    model = build_model(config.model, config.downsample, data.class_names)
    if distributed.is_main():
        sites = len(model.replacements)
        what = f"{config.downsample.name} at {sites} sites of the {config.downsample.site}" if sites else "stock"
        parameters = sum(parameter.numel() for parameter in model.network.parameters()) / 1e6
        size = f"{parameters:.1f} M parameters, {model.stock.resolution} px"
        levels = "+".join(model.stock.levels)
        say(f"model: RF-DETR {config.model.variant}, levels {levels}, {size}; downsampling: {what}")
    return model


def create(built: Built, folder: RunFolder | None, stack: ExitStack) -> Trainer:
    """Return the trainer of a new run, at its first step.

    Args:
        built: From `build`.
        folder: Locked directory of a run without checkpoints; `None`: it is created, after all other checks.
        stack: Holds the lock of a new directory.

    Raises:
        UserError: The first weights cannot be loaded, or the directory cannot be written.
    """
    config = built.config
    # Load the first weights, then seed each rank differently.
    load_first_weights(config, built.model)
    seed_all(config.train.seed + distributed.rank())
    # Create the run directory.
    folder = folder or _create_folder(config, stack)
    # Build the learner at its first step.
    state = TrainState()
    learner = build_learner(config.train, built.model, built.device, built.loader.steps_per_epoch, state)
    return _start(built, folder, learner, state)


def restore(
    built: Built, folder: RunFolder, checkpoint: Checkpoint, changed: Set[str], accepted: Sequence[str]
) -> Trainer:
    """Return the trainer of a run that resumes from a checkpoint.

    Args:
        built: From `build`.
        folder: Locked directory of the run.
        checkpoint: The newest of the run.
        changed: Keys of the configuration that differ from the checkpoint's, from `settle_config`.
        accepted: Accepted changes.

    Raises:
        DatasetError: The data differs from the checkpoint's.
        CheckpointError: The checkpoint does not hold this run's state.
    """
    config, record = built.config, describe_model(built.config, built.data)
    # Compare the data with the checkpoint's.
    is_other_training, is_remeasured = check_data(checkpoint, record, accepted)
    changed = {*changed, ANNOTATIONS} if is_other_training else changed
    if "exif" not in checkpoint.record.config.get("data", {}) and (
        built.data.train.is_stored or built.data.val.is_stored
    ):
        changed = {*changed, "data.exif"}  # before that key, such images could not be read
    is_remeasured = is_remeasured or bool(changed & set(REMEASURING))
    # Carry the state over the changes.
    training = checkpoint.training()
    is_other_world = number_of_ranks(training) != distributed.world_size()
    state = carry_over(checkpoint.state, changed, is_remeasured, is_other_world)
    _say_carried_over(checkpoint.state, changed, is_remeasured)
    if state.step_in_epoch >= built.loader.steps_per_epoch:
        where = f"at step {state.step_in_epoch} of an epoch of {built.loader.steps_per_epoch}"
        raise CheckpointError(f"{checkpoint.path} is {where}")
    # Build and restore the learner.
    learner = build_learner(config.train, built.model, built.device, built.loader.steps_per_epoch, state)
    load_learner(learner, checkpoint, training, config.train.seed)
    if distributed.is_main():
        say(f"resumed from {checkpoint.path} at step {state.step}, epoch {state.epoch}")
        folder.point_best(state)
    is_changed = is_remeasured or bool(changed & set(accepted))
    return _start(built, folder, learner, state, is_changed)


def _say_carried_over(was: TrainState, changed: Set[str], is_remeasured: bool) -> None:
    if not distributed.is_main():
        return
    if is_remeasured and was.best_ap is not None:
        logger.info("resetting best AP: the validation images, or how they are read, changed")
    if was.step_in_epoch and changed & set(REORDERING):
        logger.info("restarting the current epoch: the changes alter which images it holds")


def _start(built: Built, folder: RunFolder, learner: Learner, state: TrainState, is_changed: bool = False) -> Trainer:
    """Return the trainer, and record the start of the run."""
    config, data, _, loader, criterion, evaluation, _, stop = built
    # Fit the batches into memory.
    if config.train.micro_batch == "auto":
        state.micro_batch = state.micro_batch or choose_micro_batch(config, learner, criterion, loader, data.train)
        evaluation.fit_into_memory(learner.network, learner.optimizer)
    if distributed.is_main():
        batches = {"training": loader.largest_batch, "evaluation": evaluation.loader.largest_batch}
        foresee_shortage(batches, config.data.workers, num_local_ranks())
    trainer = Trainer(
        config=config,
        learner=learner,
        state=state,
        loader=loader,
        criterion=criterion,
        evaluation=evaluation,
        folder=folder,
        record=describe_model(config, data),
        stop=stop,
    )
    # Record the start of the run.
    if is_changed:  # the next resume then needs no --accept
        trainer.save(again=True)
    if distributed.is_main():
        folder.retire_best(state)
        folder.write_config(config)
        add_start(folder.log_file, describe_run(config, learner, loader, data, state))
        # Open the trackers, on rank 0 alone.
        trainer.tracker = _build_tracker(config, folder, state, learner.schedule.total_steps, evaluation)
    return trainer


def _build_tracker(
    config: Config, folder: RunFolder, state: TrainState, total_steps: int, evaluation: Evaluation
) -> Tracker:
    """Return the trackers: files, console, and those of the configuration."""
    measured = [ap for kind in ("ema", "raw") if (ap := state.metrics.get(f"{kind}/AP")) is not None]
    trackers: list[Tracker] = [
        JsonLinesTracker(folder.metrics_file, state.step, state.is_evaluation_due),
        JsonLinesTracker(folder.speed_file, state.step, is_speed=True),
        ConsoleTracker(state.step, total_steps, config.train.epochs, max(measured, default=None)),
    ]
    series = Series(folder.path, state.step, config.model_dump(mode="json"))
    return Trackers([*trackers, *open_trackers(config.output.trackers, series, evaluation)])


def claim(config: Config, folder: RunFolder | None, stack: ExitStack) -> None:
    """Lock the directory of an existing run while the stack lasts. Every rank must have found it.

    Raises:
        ConfigError: Another process trains in it, or the ranks see different contents.
    """
    if distributed.broadcast_object(folder is not None) != (folder is not None):
        here = f"rank {distributed.rank()} and rank 0 see different contents in {config.output.dir}"
        raise ConfigError(f"output.dir: {here}. It must be a directory that all machines share")
    if folder is not None and distributed.is_main():
        stack.enter_context(folder.lock())
    distributed.barrier()


def find_newest(folder: RunFolder | None) -> Checkpoint | None:
    """Return the checkpoint to resume from, the same on every rank; `None` for a new run."""
    found = folder.newest() if folder and distributed.is_main() and folder.has_checkpoints() else None
    name = distributed.broadcast_object(found.path.name if found else None)
    return open_checkpoint(folder.checkpoints / name) if folder and name and not found else found


def _create_folder(config: Config, stack: ExitStack) -> RunFolder:
    """Create the run directory on rank 0 and lock it while the stack lasts. The other ranks wait for it."""
    if distributed.is_main():
        folder = RunFolder.create(config)
        stack.enter_context(folder.lock())
        say(f"run directory: {folder.path}")
    distributed.barrier()
    return RunFolder(Path(config.output.dir))
