"""Going on from a checkpoint: whether it is this run's, what its state becomes, and what a change entails."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rfdetr_hwd.checkpoint.read import Checkpoint, CheckpointError
from rfdetr_hwd.checkpoint.record import recorded_config
from rfdetr_hwd.config.changes import ANNOTATIONS, REFITTING, REMEASURING, REORDERING, check_changes
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.setup import TRAINING_DATA, VALIDATION_DATA

logger = logging.getLogger(__name__)


def restore(
    checkpoint: Checkpoint,
    description: Mapping[str, Any],
    config: Config,
    learner: Learner,
    updates_per_epoch: int,
    accepted: Sequence[str],
) -> bool:
    """Put a checkpoint into the learner, and make its state the one to go on from.

    Args:
        checkpoint: The checkpoint.
        description: Of the model that goes on, from `describe_model`.
        config: The configuration that it goes on with.
        learner: Changed in place.
        updates_per_epoch: Updates of an epoch of the run that goes on.
        accepted: Changes that are meant.

    Returns:
        Whether something accepted has changed: the run goes on as another one than the checkpoint says.

    Raises:
        ConfigError: The configuration differs from the checkpoint's in what is not accepted.
        DatasetError: The data is not what the checkpoint was trained and measured on.
        CheckpointError: It holds something else than this run's state.
    """
    _check_data(checkpoint, description, accepted)
    recorded = recorded_config(checkpoint)
    changed = check_changes(recorded, config, accepted)
    if checkpoint.record.get(TRAINING_DATA) != description[TRAINING_DATA]:
        changed.add(ANNOTATIONS)
    num_ranks = _load(checkpoint, learner, recorded.train.ema, config.train.seed)
    state = checkpoint.state
    is_measured_on_others = checkpoint.record.get(VALIDATION_DATA) != description[VALIDATION_DATA]
    is_measured_on_others |= bool(changed & set(REMEASURING))
    if is_measured_on_others:
        state.is_evaluation_due |= bool(state.current_figures)
        state.forget_best()
        logger.info("the best AP is forgotten: it was measured on other images")
    if changed & set(REFITTING) or num_ranks != distributed.world_size():
        state.micro_batch = 0
    if state.update_in_epoch and changed & set(REORDERING):
        state.update_in_epoch = 0
        logger.info("the epoch under way starts again: with these changes it is other images than it was")
    learner.schedule = replace(learner.schedule, total_steps=state.total_steps(config.train.epochs, updates_per_epoch))
    if state.update_in_epoch >= updates_per_epoch:
        raise CheckpointError(
            f"{checkpoint.path} is at update {state.update_in_epoch} of an epoch of {updates_per_epoch}"
        )
    return is_measured_on_others or bool(changed & set(accepted))


def _load(checkpoint: Checkpoint, learner: Learner, has_average: bool, seed: int) -> int:
    """Put weights, optimiser and random generators into the learner; return the number of ranks that saved them."""
    training = checkpoint.training()

    def weights(kind: str) -> dict[str, Tensor]:
        return checkpoint.weights(kind if has_average else "plain")  # an average that is new starts from them

    try:
        learner.restore(checkpoint.state, training, weights, seed)
    except torch.OutOfMemoryError:  # which says nothing about the checkpoint
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, OverflowError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise CheckpointError(f"{checkpoint.path} does not hold the state of this run ({reason})") from None
    return len(training["random"])


def _check_data(checkpoint: Checkpoint, description: Mapping[str, Any], accepted: Sequence[str]) -> None:
    annotations = {TRAINING_DATA: "training annotations", VALIDATION_DATA: "validation annotations"}
    for key, what in {"class_names": "classes", **annotations}.items():
        was, now = checkpoint.record.get(key), description[key]
        if was != now and not (key in annotations and ANNOTATIONS in accepted):
            hint = f", accept them with --accept {ANNOTATIONS}" if key in annotations else ""
            raise DatasetError(
                f"the {what} are not those of {checkpoint.path}: was {_brief(was)}, is {_brief(now)}. Resume on the "
                f"same data{hint}, or start a new run with model.pretrain_weights set to this one"
            )


def _brief(what: Any) -> Any:
    """Return a split's numbers with the beginning of its hash; anything else as it is."""
    return {**what, "sha256": str(what.get("sha256"))[:12]} if isinstance(what, dict) else what
