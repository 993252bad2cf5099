"""The description of a run, recorded in every checkpoint and, at every start, in run.json."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rfdetr_hwd.amp import describe_precision
from rfdetr_hwd.checkpoint.data_root import describe_root
from rfdetr_hwd.checkpoint.schema import DataIdentity, Record
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.loader import TrainLoader
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.environment import describe_start
from rfdetr_hwd.training.class_weights import find_class_weights
from rfdetr_hwd.training.data import RunData
from rfdetr_hwd.training.learner import Learner


def describe_model(config: Config, data: RunData) -> Record:
    """Return the record of a checkpoint: the configuration, the classes, and the identity of its data."""
    return Record(
        config=config.model_dump(mode="json"),
        class_names=data.train.class_names,
        category_ids=data.train.category_ids,
        training_data=_identity(data.train),
        validation_data=_identity(data.val),
        held_out=data.held_out,
        class_weights=find_class_weights(config.train.class_weights, data.train),
    )


def describe_run(
    config: Config, learner: Learner, loader: TrainLoader, data: RunData, state: TrainState
) -> dict[str, Any]:
    """Return an entry of run.json: how the run was started, and all numbers derived from its configuration."""
    # Derive what the configuration leaves open.
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
            "drawn_in_first_epoch": loader.drawn(0),
            "total_steps": learner.schedule.total_steps,
            "warmup_steps": learner.schedule.warmup_steps,
            "world_size": distributed.world_size(),
            "micro_batch": state.micro_batch or configured,
            "parameters": sum(size for size, _ in sizes),
            "trained_parameters": sum(size for size, is_trained in sizes if is_trained),
            "learning_rate_groups": groups,
        },
        "data": {
            **describe_root(data.root, config.data.root, Path(config.output.dir)),
            "classes": list(data.train.class_names),
            "training_data": _identity(data.train).model_dump(),
            "validation_data": _identity(data.val).model_dump(),
        },
        "held_out": asdict(data.held_out) if data.held_out else None,
    }


def _identity(data: DetectionData) -> DataIdentity:
    return DataIdentity(images=len(data), boxes=len(data.labels), sha256=data.fingerprint)
