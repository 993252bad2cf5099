"""The description of a run, recorded in every checkpoint and, at every start, in run.json."""

from typing import Any

from rfdetr_hwd.amp import describe_precision
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.loader import TrainLoader
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.environment import describe_start
from rfdetr_hwd.training.data import RunData
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.validation_split import HELD_OUT

TRAINING_DATA, VALIDATION_DATA = "training_data", "validation_data"
"""Entries of a checkpoint's record that identify its data."""


def describe_model(config: Config, data: RunData) -> dict[str, Any]:
    """Return the record of a checkpoint: the configuration, the classes, and the identity of its data."""
    return {
        "config": config.model_dump(mode="json"),
        "class_names": list(data.train.class_names),
        "category_ids": list(data.train.category_ids),
        TRAINING_DATA: _identity(data.train),
        VALIDATION_DATA: _identity(data.val),
        **_held_out(data),
    }


def describe_run(
    config: Config, learner: Learner, loader: TrainLoader, data: RunData, state: TrainState
) -> dict[str, Any]:
    """Return an entry of run.json: how the run was started, and all numbers derived from its configuration."""
    share = -(-config.train.batch_size // distributed.world_size())
    configured = config.train.micro_batch if isinstance(config.train.micro_batch, int) else share
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
            "steps_per_epoch": loader.steps_per_epoch,
            "total_steps": learner.schedule.total_steps,
            "warmup_steps": learner.schedule.warmup_steps,
            "world_size": distributed.world_size(),
            "micro_batch": state.micro_batch or configured,
            "parameters": sum(size for size, _ in sizes),
            "trained_parameters": sum(size for size, is_trained in sizes if is_trained),
            "learning_rate_groups": groups,
        },
        "data": {
            "root": config.data.root,
            "classes": list(data.train.class_names),
            TRAINING_DATA: _identity(data.train),
            VALIDATION_DATA: _identity(data.val),
        },
        **_held_out(data),
    }


def _identity(data: DetectionData) -> dict[str, Any]:
    """Return the identity of a split: number of images and boxes, and hash."""
    return {"images": len(data), "boxes": len(data.labels), "sha256": data.fingerprint}


def _held_out(data: RunData) -> dict[str, Any]:
    return {HELD_OUT: data.held_out.as_record()} if data.held_out else {}
