"""`rfdetr-hwd train`: build everything a configuration names, and fit."""

import functools
import importlib.util
import random
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rfdetr_hwd.commands.console import print_table, say
from rfdetr_hwd.config import Config, ConfigError, TrainSection, load_config
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.dataset import Augmentation, DetectionDataset
from rfdetr_hwd.data.findings import DatasetError, Findings, check_allowed
from rfdetr_hwd.data.loader import Shard, TrainLoader, TrainOrder, multi_scale_resolutions
from rfdetr_hwd.data.quarantine import MAX_SHARE, Quarantine, probe_images
from rfdetr_hwd.data.source import Split, find_layout, scan_split
from rfdetr_hwd.data.workers import Workers
from rfdetr_hwd.engine import distributed
from rfdetr_hwd.engine.checkpoint import Checkpoint, TrainState
from rfdetr_hwd.engine.optimizer import Schedule, build_adamw, build_average
from rfdetr_hwd.engine.progress import ConsoleTracker
from rfdetr_hwd.engine.tracking import JsonLinesTracker, NullTracker, TensorBoardTracker, Tracker, Trackers
from rfdetr_hwd.engine.train_step import NonFiniteError
from rfdetr_hwd.engine.trainer import Learner, LoopParts, Plan, fit
from rfdetr_hwd.environment import describe_environment
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.evaluation import Evaluation
from rfdetr_hwd.model.build import BuiltModel, build_model
from rfdetr_hwd.model.pretrained import find_source
from rfdetr_hwd.model.upstream import DetectionLoss, learning_rates
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
    folder = RunFolder.open(resume) if resume else None
    settings = load_config(config, overrides) if config else RunFolder(resume or Path()).config(overrides)
    if "tensorboard" in settings.output.trackers and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("output.trackers: run `pip install tensorboard` first, or leave tensorboard out")
    with distributed.process_group() as device, ExitStack() as stack:
        train_data, val_data = _read_data(settings)
        _seed(settings.train.seed)
        if folder is not None and distributed.is_main():
            stack.enter_context(folder.lock())
            folder.write_config(settings)
        checkpoint = folder.newest(distributed.is_main()) if folder and folder.has_checkpoints() else None
        model = _build_model(settings, train_data, is_fresh=checkpoint is None)
        if folder is None:
            folder = _create_folder(settings, stack)
        _train(settings, folder, model, checkpoint, (train_data, val_data), device)


def _train(
    config: Config,
    folder: RunFolder,
    model: BuiltModel,
    checkpoint: Checkpoint | None,
    data: tuple[DetectionData, DetectionData],
    device: torch.device,
) -> None:
    """Put the parts of a run together, restore what a checkpoint holds, and fit."""
    train_data, val_data = data
    model.network.to(device)
    state = TrainState()
    loader = _build_train_loader(config, model, train_data, folder.quarantine_file(distributed.rank()))
    learner = _build_learner(config.train, model, loader.updates_per_epoch, device, state)
    record = _record(config, train_data)
    if checkpoint is not None:
        _restore(checkpoint, record, learner, state)
        folder.point_best(state)
    parts = LoopParts(
        loader=loader,
        criterion=DetectionLoss(model.stock).to(device),
        evaluate=Evaluation.build(model, val_data, config, device).measure,
        save=functools.partial(_save, folder, learner, record, config.output.keep_last),
        tracker=_build_tracker(config, folder, state.step, loader.updates_per_epoch),
        device=device,
    )
    _fit(config, learner, parts, state, folder)
    if distributed.is_main():
        say(f"best: {state.best_weights} AP {state.best_ap:.4f} at step {state.best_step}, in {folder.best}")
        say(f"to measure it: rfdetr-hwd evaluate --weights {shlex.quote(str(folder.path))}")


def _fit(config: Config, learner: Learner, parts: LoopParts, state: TrainState, folder: RunFolder) -> None:
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
        fit(learner, parts, plan, state, config)
    except NonFiniteError as error:
        raise TrainingError(
            f"the gradient of step {state.step + 1} is not finite; nothing was changed: {error}. Lower train.lr, or "
            "look at these images"
        ) from None
    except (KeyboardInterrupt, SystemExit):
        if distributed.is_main():
            command = f"rfdetr-hwd train --resume {shlex.quote(str(folder.path))}"
            start = "the last checkpoint" if folder.has_checkpoints() else "the start, for there is no checkpoint yet"
            say(f"\nstopped at step {state.step}; to go on from {start}: {command}")
        raise
    finally:
        parts.tracker.close()


def _read_data(config: Config) -> tuple[DetectionData, DetectionData]:
    """Read the annotations, and decode as many images as it takes to know that the dataset can be trained on."""
    settings = config.data
    check_allowed(settings.allow)
    layout = find_layout(settings.root, settings.format)
    train_data = _read_split(layout.split("train", settings.train), config)
    val_data = _read_split(layout.split("val", settings.val), config)
    classes = val_data.map_classes(train_data.class_names)
    if classes.only_dataset and "classes_differ" not in settings.allow:
        raise DatasetError(
            f"{val_data.images} has classes that {train_data.images} lacks: {', '.join(classes.only_dataset)}. Mend "
            "the categories, or accept with data.allow=[classes_differ]"
        )
    if distributed.is_main():
        names = ", ".join(train_data.class_names[:8]) + (", ..." if len(train_data.class_names) > 8 else "")
        say(f"data: {layout.root} ({layout.format}), {len(train_data)} training and {len(val_data)} validation images")
        say(f"classes: {len(train_data.class_names)} ({names})")
        if classes.only_model:
            say(f"classes without ground truth in {val_data.name}: {', '.join(classes.only_model)}")
    problem = _probe([train_data, val_data], config) if distributed.is_main() else ""
    problem = distributed.broadcast_object(problem)
    if problem:
        raise DatasetError(problem)
    return train_data, val_data


def _read_split(split: Split, config: Config) -> DetectionData:
    """Read a split; images that cannot be read end the run as `data.on_bad_image` says, in every format alike."""
    findings = Findings()
    data = scan_split(split, findings)
    allow = list(config.data.allow)
    num_unreadable = findings.counts["unreadable_image"]  # of YOLO and shards, whose boxes need the image's size
    if config.data.on_bad_image == "quarantine" and num_unreadable <= MAX_SHARE * (len(data) + num_unreadable):
        allow.append("unreadable_image")
        if num_unreadable and distributed.is_main():
            first = findings.examples["unreadable_image"][0]
            say(f"{split.name}: {num_unreadable} images cannot be read and are left out, the first: {first}")
    if not len(data.labels):
        findings.add("no_boxes", split.annotations, "", "has no box that can be used: nothing to learn or to measure")
    findings.refuse_errors(allow)
    notices = ", ".join(f"{kind} {findings.counts[kind]}" for kind in findings.kinds("notice"))
    if notices and distributed.is_main():
        say(f"notices of {split.name}: {notices}; `rfdetr-hwd data check` explains them")
    return data


def _probe(splits: Sequence[DetectionData], config: Config) -> str:
    """Decode images before the first epoch, so that a broken dataset costs no night; return why it cannot be used."""
    for data in splits:
        try:
            bad = probe_images(data, config.train.seed)
        except DatasetError as error:
            return str(error)
        if bad and config.data.on_bad_image == "fail":
            return bad[0].reason
        if bad:
            say(f"{data.name}: {len(bad)} images cannot be read, the first: {bad[0].reason}")
    return ""


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _build_model(config: Config, data: DetectionData, is_fresh: bool) -> BuiltModel:
    """Build the model; a fresh one starts from the pretrained weights. The ranks' generators part afterwards."""
    model = build_model(config.model, config.downsample, data.class_names)
    if distributed.is_main():
        sites = len(model.replacements)
        what = f"{config.downsample.name} at {sites} sites of the {config.downsample.site}" if sites else "stock"
        parameters = sum(parameter.numel() for parameter in model.network.parameters()) / 1e6
        size = f"{parameters:.1f} M parameters, {model.stock.resolution} px"
        levels = "+".join(model.stock.levels)
        say(f"model: RF-DETR {config.model.variant}, levels {levels}, {size}; downsampling: {what}")
    source = _find_source(config) if is_fresh else None
    if source is not None:
        report = load_weights(model.stock, model.class_names, source, config.model.strict_weights)
        if distributed.is_main():
            print_table(f"weights from {source.origin}", ("tensors", "number", "how"), report.rows())
    _seed(config.train.seed + distributed.rank())
    return model


def _find_source(config: Config) -> SourceWeights | None:
    """Return the weights that `model.pretrain_weights` names: a run or checkpoint folder, a file, or the published."""
    named = config.model.pretrain_weights
    if named is not None and named != "auto" and Path(named).is_dir():
        checkpoint = find_checkpoint(Path(named))
        _, class_names = read_record(checkpoint)
        kind = checkpoint.record.get("better_weights", checkpoint.weights_kinds[0])
        return SourceWeights(checkpoint.weights(kind), class_names, f"{checkpoint.path} ({kind})")
    if distributed.is_main():
        find_source(config.model)  # fetches, so that the other ranks find the file
    distributed.barrier()
    return find_source(config.model)


def _create_folder(config: Config, stack: ExitStack) -> RunFolder:
    """Make the run folder on rank 0 and lock it for as long as the stack lasts; the others wait until it is there."""
    if distributed.is_main():
        folder = RunFolder.create(config, describe_environment())
        stack.enter_context(folder.lock())
        say(f"run folder: {folder.path}")
    distributed.barrier()
    return RunFolder(Path(config.output.dir))


def _build_train_loader(config: Config, model: BuiltModel, data: DetectionData, quarantine: Path) -> TrainLoader:
    train, augment = config.train, config.data.augment
    side = model.stock.resolution
    sides = multi_scale_resolutions(side, model.stock.resolution_step) if train.multi_scale else [side]
    augmentation = Augmentation(train.seed, augment.flip, augment.crop, augment.min_crop)
    order = TrainOrder(len(data), train.batch_size, train.seed, sides)
    shard = Shard(distributed.rank(), distributed.world_size())
    dataset = DetectionDataset(data, augmentation, config.model.resize, config.data.on_bad_image)
    workers = Workers(config.data.workers, config.data.worker_timeout)
    return TrainLoader(dataset, order, train.micro_batch, workers, shard, Quarantine(quarantine, len(data)))


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


def _build_tracker(config: Config, folder: RunFolder, step: int, updates_per_epoch: int) -> Tracker:
    if not distributed.is_main():
        return NullTracker()
    total = config.train.epochs * updates_per_epoch
    trackers: list[Tracker] = [
        JsonLinesTracker(folder.metrics_file, step),
        ConsoleTracker(step, total, config.train.batch_size, config.train.epochs),
    ]
    if "tensorboard" in config.output.trackers:
        trackers.append(TensorBoardTracker(folder.path / "tensorboard", step))
    return Trackers(trackers)


def _record(config: Config, data: DetectionData) -> dict[str, Any]:
    """Return what a checkpoint needs to rebuild its model and to know its classes."""
    return {
        "config": config.model_dump(mode="json"),
        "class_names": list(data.class_names),
        "category_ids": list(data.category_ids),
        "annotations_sha256": data.fingerprint,
    }


def _restore(checkpoint: Checkpoint, record: Mapping[str, Any], learner: Learner, state: TrainState) -> None:
    """Put a checkpoint into the learner and the state.

    Raises:
        DatasetError: The training data is not what the checkpoint was trained on.
    """
    for key, what in (("class_names", "the classes"), ("annotations_sha256", "the training annotations")):
        if checkpoint.record[key] != record[key]:
            raise DatasetError(
                f"{what} are not those of {checkpoint.path}: was {checkpoint.record[key]}, is {record[key]}. Resume on "
                "the same data, or start a new run with model.pretrain_weights set to this one"
            )
    vars(state).update(vars(learner.restore(checkpoint.training(), checkpoint.weights)))
    if distributed.is_main():
        say(f"resumed from {checkpoint.path} at step {state.step}, epoch {state.epoch}")


def _save(folder: RunFolder, learner: Learner, record: dict[str, Any], keep_last: int, state: TrainState) -> None:
    """Write a checkpoint on rank 0; the others contribute their random generators and wait."""
    training = learner.training_state(state)
    if distributed.is_main():
        weights = {kind: network.state_dict() for kind, network in learner.networks().items()}
        folder.save(state, record, weights, training, keep_last)
    distributed.barrier()
