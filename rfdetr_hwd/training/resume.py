"""Resume a run: check that it is the same run, settle its state, and restore the learner."""

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rfdetr_hwd.checkpoint.read import Checkpoint, CheckpointError
from rfdetr_hwd.checkpoint.record import recorded_config
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.schema import DataIdentity, Record
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.changes import ANNOTATIONS, REFITTING, REORDERING, check_changes
from rfdetr_hwd.config.load import keep_former, parse_recorded, with_bit_depth
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.training.learner import Learner

logger = logging.getLogger(__name__)


def settle_config(
    config: Config, folder: RunFolder, checkpoint: Checkpoint | None, accepted: Sequence[str]
) -> tuple[Config, set[str]]:
    """Return the configuration to resume a run with, and the keys that differ. Other changes are refused.

    Args:
        config: Requested configuration.
        folder: Directory of the run.
        checkpoint: The newest, which defines the run; `None`: there is none yet, and config.yaml defines it.
        accepted: Keys whose change is accepted.

    Raises:
        ConfigError: A difference would change the steps of the run and is not accepted, or the run has completed more
            epochs than requested.
    """
    # Find what the run was.
    if checkpoint is None:
        values = folder.config_values()
        recorded = parse_recorded(values, origin=str(folder.config_file))
    else:
        recorded, values = recorded_config(checkpoint), checkpoint.record.config
    # Keep what was decided then, and check the rest.
    config = with_bit_depth(keep_former(config, values), recorded.data.bit_depth)
    changed = check_changes(recorded, config, accepted)
    for key in set(accepted) - changed - {ANNOTATIONS}:
        logger.warning("--accept %s: this key has not changed", key)
    epoch = checkpoint.state.epoch if checkpoint else 0
    if config.train.epochs < epoch:
        raise ConfigError(f"train.epochs={config.train.epochs}: the run has completed {epoch} epochs already")
    return config, changed


def check_data(checkpoint: Checkpoint, record: Record, accepted: Sequence[str]) -> tuple[bool, bool]:
    """Return whether the training data, and the validation data, differ from the checkpoint's.

    Args:
        checkpoint: The checkpoint.
        record: Of the model that is resumed; see `describe_model`.
        accepted: Accepts other annotations if it holds `annotations`. Other classes are never accepted.

    Raises:
        DatasetError: The data differs, and this is not accepted.
    """
    annotations = {"training_data": "training annotations", "validation_data": "validation annotations"}
    for key, what in {"class_names": "classes", **annotations}.items():
        was, now = getattr(checkpoint.record, key), getattr(record, key)
        if was != now and not (key in annotations and ANNOTATIONS in accepted):
            hint = f", accept them with --accept {ANNOTATIONS}" if key in annotations else ""
            raise DatasetError(
                f"the {what} differ from those of {checkpoint.path}: was {_brief(was)}, is {_brief(now)}. Resume on "
                f"the same data{hint}, or start a new run with model.pretrain_weights set to this run"
            )
    was, now = checkpoint.record, record
    return was.training_data != now.training_data, was.validation_data != now.validation_data


def carry_over(
    state: TrainState, changed: Set[str], is_remeasured: bool = False, is_other_world: bool = False
) -> TrainState:
    """Return the state to resume with after changes. The given state is not modified.

    Args:
        state: State of a checkpoint.
        changed: Keys that differ, and `annotations` if the training data does.
        is_remeasured: Whether the validation set changed. The best AP is then reset.
        is_other_world: Whether the number of ranks changed. The micro-batch is then found again.
    """
    # Forget what was measured on other images.
    state = replace(state)
    if is_remeasured:
        state = replace(
            state,
            is_evaluation_due=state.is_evaluation_due or bool(state.current_metrics),
            best_ap=None,
            best_step=0,
            best_weights="",
            evaluations_since_best=0,
            metrics={},
            metrics_step=0,
        )
    # Find the micro-batch again.
    if is_other_world or changed & set(REFITTING):
        state = replace(state, micro_batch=0)
    # Begin the epoch again, in another order.
    if state.step_in_epoch and changed & set(REORDERING):
        state = replace(state, step_in_epoch=0)
    return state


def number_of_ranks(training: Mapping[str, Any]) -> int:
    """Return how many ranks saved a training state."""
    generators = training.get("random")
    return len(generators) if isinstance(generators, list) else 0


def load_learner(learner: Learner, checkpoint: Checkpoint, training: dict[str, Any], seed: int) -> None:
    """Restore weights, optimizer and random generators of a learner from a checkpoint.

    Args:
        learner: Changed in place.
        checkpoint: The checkpoint.
        training: From `checkpoint.training()`.
        seed: Seed of the run.

    Raises:
        CheckpointError: The checkpoint does not hold this run's state.
    """
    has_ema = recorded_config(checkpoint).train.ema

    def weights(kind: str) -> dict[str, Tensor]:
        return checkpoint.weights(kind if has_ema else "raw")  # a new EMA starts from the raw weights

    try:
        learner.restore(checkpoint.state, training, weights, seed)
    except torch.OutOfMemoryError:  # not a fault of the checkpoint
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, OverflowError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise CheckpointError(f"{checkpoint.path} does not hold the state of this run ({reason})") from None


def _brief(what: DataIdentity | Sequence[str]) -> object:
    """Return the identity of a split with a short hash, or the class names."""
    return {**what.model_dump(), "sha256": what.sha256[:12]} if isinstance(what, DataIdentity) else list(what)
