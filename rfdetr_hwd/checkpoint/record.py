"""Find a checkpoint, by its own path or its run's, and read its record."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from rfdetr_hwd.checkpoint.read import Checkpoint, CheckpointError, newest_checkpoint, open_checkpoint
from rfdetr_hwd.config.changes import MEASURABLE, changes, refuse
from rfdetr_hwd.config.load import parse_recorded
from rfdetr_hwd.config.schema import Config

TRUST_VARIABLE = "RFDETR_HWD_TRUST"
"""Environment variable: comma-separated downsampler classes (package.module:Class) that a checkpoint may import."""

logger = logging.getLogger(__name__)


def find_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint directory, or the best (else newest) checkpoint of a run directory.

    Raises:
        CheckpointError: There is no checkpoint, or the named one is corrupt.
    """
    if not path.is_dir():
        raise CheckpointError(
            f"{path} is not a directory: give a run directory or a checkpoint directory of rfdetr-hwd"
        )
    if (path / "best").exists():
        return open_checkpoint((path / "best").resolve())  # the link may move while the checkpoint is read
    if (path / "checkpoints").is_dir():
        checkpoint, problems = newest_checkpoint(path / "checkpoints")
        for problem in problems:
            logger.warning("fell back to an earlier checkpoint: %s", problem)
        return checkpoint
    return open_checkpoint(path.resolve())


def read_record(checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration and the class names that a checkpoint records.

    Args:
        checkpoint: The checkpoint.
        overrides: `key=value` assignments to data, evaluation and precision.

    Raises:
        CheckpointError: The record names a class that is not trusted.
        ConfigError: An override would change the model or the training.
    """
    # Only what is measured may differ, not what was trained.
    wanted = recorded_config(checkpoint, overrides)
    refuse(changes(recorded_config(checkpoint), wanted), MEASURABLE, "a trained model")
    refuse_untrusted_class(wanted, str(checkpoint.path))
    return wanted, checkpoint.record.class_names


def recorded_config(checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration that a checkpoint records, with overrides. It may name a class that is not trusted.

    Raises:
        ConfigError: It is not a valid one.
    """
    return parse_recorded(checkpoint.record.config, overrides, f"{checkpoint.path}/record.json")


def refuse_untrusted_class(config: Config, where: str) -> None:
    """Refuse to import an untrusted class that a checkpoint names: importing runs code.

    Raises:
        CheckpointError: The downsampler is a class by path, and the environment does not name it as trusted.
    """
    name = config.downsample.name
    if ":" in name and name not in os.environ.get(TRUST_VARIABLE, "").split(","):
        raise CheckpointError(
            f"{where} was trained with the downsampler class {name}, and loading it imports that module. If you trust "
            f"it, set {TRUST_VARIABLE}={name}"
        )
