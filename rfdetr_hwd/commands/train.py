"""`rfdetr-hwd train`: build everything a configuration names, and fit."""

import functools
import random
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rfdetr_hwd.commands.console import print_table, say
from rfdetr_hwd.config import Config, ConfigError, TrainSection, load_config
from rfdetr_hwd.data.loader import (
    Augmentation,
    DetectionDataset,
    EvalLoader,
    Share,
    TrainLoader,
    TrainOrder,
    multi_scale_resolutions,
)
from rfdetr_hwd.data.source import DetectionData, check_images_exist, find_layout, read_split
from rfdetr_hwd.engine import distributed
from rfdetr_hwd.engine.checkpoint import TrainState, newest_checkpoint
from rfdetr_hwd.engine.console import ConsoleTracker
from rfdetr_hwd.engine.evaluator import evaluate
from rfdetr_hwd.engine.optimizer import Schedule, build_adamw, build_average
from rfdetr_hwd.engine.tracking import JsonLinesTracker, NullTracker, TensorBoardTracker, Tracker, Trackers
from rfdetr_hwd.engine.train_step import NonFiniteError
from rfdetr_hwd.engine.trainer import Learner, Plan, Surroundings, fit
from rfdetr_hwd.environment import describe_environment
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.metrics.coco import CocoMetric
from rfdetr_hwd.model.build import BuiltModel, build_model
from rfdetr_hwd.model.pretrained import find_source
from rfdetr_hwd.model.upstream import DetectionLoss, build_postprocess, learning_rates
from rfdetr_hwd.model.weights import SourceWeights, load_weights
from rfdetr_hwd.run_folder import RunFolder, find_checkpoint, read_record


class TrainingError(UserError):
    """A run that cannot go on."""


def run(config: Path | None, resume: Path | None, overrides: list[str]) -> None:
    """Train a new run from a configuration, or continue one.

    Args:
        config: YAML file of a new run.
        resume: Run folder to continue.
        overrides: `key=value` assignments.

    Raises:
        UserError: What the user gave is wrong, or the run cannot go on.
    """
    if (config is None) == (resume is None):
        raise ConfigError("give --config FILE for a new run, or --resume RUN_DIR to continue one")
    settings = load_config(config, overrides) if config else RunFolder.open(resume or Path()).config(overrides)
    with distributed.process_group() as device:
        _train(settings, device, RunFolder(resume) if resume else None)


def _train(config: Config, device: torch.device, resumed: RunFolder | None) -> None:
    """Build the parts of a run and fit."""
    train_data, val_data = _read_data(config)
    _seed(config.train.seed)
    is_restored = resumed is not None and resumed.has_checkpoints()
    model = _build_model(config, train_data, is_fresh=not is_restored)
    folder = resumed or _create_folder(config)
    model.network.to(device)
    state = TrainState()
    share = Share(distributed.rank(), distributed.world_size())
    loader = _build_train_loader(config, model, train_data, share)
    learner = _build_learner(config.train, model, loader.updates_per_epoch, device, state)
    if is_restored:
        _restore(folder, learner, state)
    around = Surroundings(
        loader=loader,
        criterion=DetectionLoss(model.stock).to(device),
        evaluate=_build_evaluation(config, model, val_data, share, device),
        save=functools.partial(_save, folder, learner, _record(config, train_data), config.output.keep_last),
        tracker=_build_tracker(config, folder, state.step, loader.updates_per_epoch),
        device=device,
    )
    _fit(config, learner, around, state, folder)
    if distributed.is_main():
        say(f"best: {state.best_weights} AP {state.best_ap:.4f} at step {state.best_step}, in {folder.best}")
        say(f"to measure it: rfdetr-hwd evaluate --weights {shlex.quote(str(folder.path))}")


def _fit(config: Config, learner: Learner, around: Surroundings, state: TrainState, folder: RunFolder) -> None:
    """Run the loop; say how to go on when it is interrupted, and what was wrong when it cannot go on."""
    plan = Plan(
        epochs=config.train.epochs,
        evaluate_every=config.evaluation.every,
        save_every=config.output.save_every,
        log_every=config.train.log_every,
        clip=config.train.clip,
        early_stop=config.train.early_stop,
    )
    try:
        fit(learner, around, plan, state, config)
    except NonFiniteError as error:
        raise TrainingError(
            f"the gradient of step {state.step + 1} is not finite; nothing was changed: {error}. Lower train.lr, or "
            "look at these images"
        ) from None
    except KeyboardInterrupt:
        if distributed.is_main():
            command = f"rfdetr-hwd train --resume {shlex.quote(str(folder.path))}"
            say(f"\ninterrupted at step {state.step}; to go on from the last checkpoint: {command}")
        raise
    finally:
        around.tracker.close()


def _record(config: Config, data: DetectionData) -> dict[str, Any]:
    """Return what a checkpoint needs to rebuild its model and to know its classes."""
    return {
        "config": config.model_dump(mode="json"),
        "class_names": data.class_names,
        "category_ids": data.category_ids,
        "annotations_sha256": data.fingerprint,
    }


def _read_data(config: Config) -> tuple[DetectionData, DetectionData]:
    layout = find_layout(config.data.root, config.data.format)
    train_data = read_split(layout.split("train", config.data.train))
    val_data = read_split(layout.split("val", config.data.val))
    for data in (train_data, val_data):
        check_images_exist(data)
    val_data.category_ids_of(train_data.class_names)
    if distributed.is_main():
        names = ", ".join(train_data.class_names[:8]) + (", ..." if len(train_data.class_names) > 8 else "")
        say(f"data: {layout.root} ({layout.format}), {len(train_data)} training and {len(val_data)} validation images")
        say(f"classes: {len(train_data.class_names)} ({names})")
    return train_data, val_data


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _build_model(config: Config, data: DetectionData, is_fresh: bool) -> BuiltModel:
    model = build_model(config.model, config.downsample, data.class_names)
    if distributed.is_main():
        sites = len(model.replacements)
        what = f"{sites} stride-2 convolutions replaced by {config.downsample.name}" if sites else "stock downsampling"
        parameters = sum(parameter.numel() for parameter in model.network.parameters()) / 1e6
        size = f"{parameters:.1f} M parameters, {model.stock.resolution} px"
        say(f"model: RF-DETR {config.model.variant}, levels {'+'.join(model.stock.levels)}, {size}; {what}")
    source = _pretrained_source(config) if is_fresh else None
    if source is not None:
        report = load_weights(model.stock, model.class_names, source, config.model.strict_weights)
        if distributed.is_main():
            print_table(f"weights from {source.origin}", ("tensors", "number", "how"), report.rows())
    return model


def _pretrained_source(config: Config) -> SourceWeights | None:
    """Return the weights that `model.pretrain_weights` names: a run or checkpoint folder, a file, or the published."""
    named = config.model.pretrain_weights
    if named is None or named == "auto" or not Path(named).is_dir():
        return find_source(config.model)
    checkpoint = find_checkpoint(Path(named))
    _, class_names = read_record(checkpoint)
    kind = checkpoint.record.get("better_weights", checkpoint.weights_kinds[0])
    return SourceWeights(checkpoint.weights(kind), class_names, f"{checkpoint.path} ({kind})")


def _create_folder(config: Config) -> RunFolder:
    """Make the run folder on rank 0; the others wait until it is there."""
    if distributed.is_main():
        folder = RunFolder.create(config, describe_environment())
        say(f"run folder: {folder.path}")
    distributed.barrier()
    return RunFolder(Path(config.output.dir))


def _build_learner(
    train: TrainSection, model: BuiltModel, updates_per_epoch: int, device: torch.device, state: TrainState
) -> Learner:
    network = model.network
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
        wrapped=distributed.distribute(network, device),
        optimizer=build_adamw(rates),
        schedule=Schedule(
            train.schedule,
            warmup_steps=round(train.warmup_epochs * updates_per_epoch),
            total_steps=train.epochs * updates_per_epoch,
            final_factor=train.lr_final_factor,
        ),
        average=build_average(network, train.ema_decay, train.ema_tau, lambda: state.step) if train.ema else None,
    )


def _build_train_loader(config: Config, model: BuiltModel, data: DetectionData, share: Share) -> TrainLoader:
    train, augment = config.train, config.data.augment
    resolution = model.stock.resolution
    sides = multi_scale_resolutions(resolution, model.stock.resolution_step) if train.multi_scale else [resolution]
    augmentation = Augmentation(train.seed, augment.flip, augment.crop, augment.min_crop)
    order = TrainOrder(len(data), train.batch_size, train.seed, sides)
    return TrainLoader(DetectionDataset(data, augmentation), order, train.micro_batch, config.data.workers, share)


def _build_evaluation(
    config: Config, model: BuiltModel, data: DetectionData, share: Share, device: torch.device
) -> Any:
    settings = config.evaluation
    loader = EvalLoader(DetectionDataset(data), model.stock.resolution, settings.batch_size, config.data.workers, share)
    metric = CocoMetric(
        data.ground_truth(), data.category_ids_of(model.class_names), settings.max_dets, settings.backend
    )
    postprocess = build_postprocess(model.stock)

    def measure(network: nn.Module) -> dict[str, float]:
        return evaluate(network, loader, postprocess, metric, config, device)

    return measure


def _build_tracker(config: Config, folder: RunFolder, step: int, updates_per_epoch: int) -> Tracker:
    if not distributed.is_main():
        return NullTracker()
    total = config.train.epochs * updates_per_epoch
    trackers: list[Tracker] = [
        JsonLinesTracker(folder.metrics_file, step),
        ConsoleTracker(step, total, config.train.batch_size, config.train.epochs),
    ]
    if "tensorboard" in config.output.trackers:
        try:
            trackers.append(TensorBoardTracker(folder.path / "tensorboard", step))
        except ModuleNotFoundError:
            raise ConfigError(
                "output.trackers: run `pip install tensorboard` first, or leave tensorboard out"
            ) from None
    return Trackers(trackers)


def _restore(folder: RunFolder, learner: Learner, state: TrainState) -> None:
    """Put the newest whole checkpoint of a run into the learner and the state."""
    checkpoint, problems = newest_checkpoint(folder.checkpoints)
    restored = learner.restore(checkpoint.training(), checkpoint.weights)
    vars(state).update(vars(restored))
    folder.point_best(state)
    if distributed.is_main():
        for problem in problems:
            say(f"fell back to an earlier checkpoint: {problem}")
        say(f"resumed from {checkpoint.path} at step {state.step}, epoch {state.epoch}")


def _save(
    folder: RunFolder, learner: Learner, record: dict[str, Any], keep_last: int, state: TrainState, is_best: bool
) -> None:
    if distributed.is_main():
        folder.save(learner, state, record, keep_last)
    distributed.barrier()
