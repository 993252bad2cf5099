"""What a run or a checkpoint records: finding it, reading it, and what may be changed about it."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rfdetr_hwd.config import Config
from rfdetr_hwd.engine.checkpoint import Checkpoint, CheckpointError, newest_checkpoint, open_checkpoint
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.read_config import known_keys, override_keys, parse_config

TRUST_VARIABLE = "RFDETR_HWD_TRUST"
"""Environment variable: comma-separated downsampler classes (package.module:Class) that a checkpoint may import."""

RESUMABLE = (
    *("data.root", "data.workers", "data.worker_timeout", "evaluation.", "output."),
    *("train.epochs", "train.early_stop", "train.log_every"),
    *("train.micro_batch", "train.max_hours", "train.deterministic"),
)
"""What may change when a run is resumed: nothing that its updates are made of."""

ACCEPTABLE = ("data.", "train.", "amp", "model.dropout", "model.drop_path", "model.gradient_checkpointing")
"""What may change besides, if whoever resumes says so: the run goes on, as another one than it was."""

ANNOTATIONS = "annotations"
"""What `--accept` calls the training annotations. The classes are never accepted: the class head would mean others."""

REORDERING = ("data.train", "data.format", "train.batch_size", "train.seed", ANNOTATIONS)
"""Changes after which the epoch under way is other images, so that it starts again."""

REFITTING = ("amp", "model.gradient_checkpointing", "train.micro_batch", "train.multi_scale", "train.ema")
"""Changes after which it is found out anew how many images fit into memory."""

MEASURABLE = ("data.", "evaluation.", "amp")
"""What may differ between training and a later measurement."""

logger = logging.getLogger(__name__)


def find_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint folder, or the best (else newest) checkpoint of a run folder.

    Raises:
        CheckpointError: There is none, or the one that was named is damaged.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a folder: give a run folder or a checkpoint folder of rfdetr-hwd")
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
        CheckpointError: The record holds neither, or names a class that is not trusted.
        ConfigError: An override would change the model or the training.
    """
    config, class_names = checkpoint.record.get("config"), checkpoint.record.get("class_names")
    if not isinstance(config, dict) or not isinstance(class_names, list):
        raise CheckpointError(f"{checkpoint.path} records no model: its record has no config or no class names")
    _check_overrides(overrides, MEASURABLE, "a trained model")
    recorded = parse_config(config, overrides, origin=f"{checkpoint.path}/record.json")
    refuse_untrusted_class(recorded, str(checkpoint.path))
    return recorded, tuple(map(str, class_names))


def check_resume_overrides(overrides: Sequence[str], accepted: Sequence[str]) -> None:
    """Refuse overrides that a resumed run cannot have.

    Raises:
        ConfigError: A key is not among what may change, and not accepted.
    """
    for key in accepted:
        if key != ANNOTATIONS and not _matches(key, ACCEPTABLE) or not _is_known(key):
            choices = ", ".join((ANNOTATIONS, *map(_shown, ACCEPTABLE)))
            raise ConfigError(f"--accept {key}: that is never accepted; what can be is {choices}")
    _check_overrides(overrides, (*RESUMABLE, *accepted), "a resumed run")


def check_changes(recorded: Config, wanted: Config, accepted: Sequence[str]) -> None:
    """Refuse a configuration that would make a resumed run another one.

    Raises:
        ConfigError: A key differs that may not, and is not accepted.
    """
    changed = changed_keys(recorded, wanted)
    _refuse([key for key in changed if not _matches(key, (*RESUMABLE, *accepted))], RESUMABLE, "a resumed run")
    for key in accepted:
        if key not in (*changed, ANNOTATIONS):
            logger.warning("--accept %s: it is as it was", key)
    bends = recorded.train.schedule == "cosine" and wanted.train.epochs != recorded.train.epochs
    if bends and "train.epochs" not in accepted:
        raise ConfigError(
            "train.epochs cannot be changed for a resumed run with train.schedule=cosine: it bends it. Continue with "
            "--accept train.epochs if that is meant"
        )


def changed_keys(one: Config, other: Config) -> list[str]:
    """Return the dotted keys in which two configurations differ."""
    before, after = (dict(_flat(config.model_dump(mode="json"))) for config in (one, other))
    return [key for key in {**before, **after} if before.get(key) != after.get(key)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _check_overrides(overrides: Sequence[str], allowed: Sequence[str], what: str) -> None:
    keys = [key for key in override_keys(overrides) if not _matches(key, allowed)]
    _refuse([key for key in keys if _is_part(key)], allowed, what)  # keys that are none are refused when they are read


def _refuse(keys: Sequence[str], allowed: Sequence[str], what: str) -> None:
    if not keys:
        return
    message = f"{', '.join(keys)} cannot be changed for {what}; what can is {', '.join(map(_shown, allowed))}"
    acceptable = [key for key in keys if what == "a resumed run" and _matches(key, ACCEPTABLE)]
    if acceptable:
        message += f". If the change is meant, say so with {' '.join(f'--accept {key}' for key in acceptable)}"
    raise ConfigError(message)


def _is_part(key: str) -> bool:
    """Return whether a key, or a section of keys, or an option below one, is one of the configuration."""
    return any(known == key or known.startswith(f"{key}.") or key.startswith(f"{known}.") for known in known_keys())


def _matches(key: str, names: Sequence[str]) -> bool:
    """Return whether a key is among names, of which those that end in a dot stand for a section."""
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in names)


def _shown(name: str) -> str:
    return f"{name}*" if name.endswith(".") else name


def refuse_untrusted_class(config: Config, where: str) -> None:
    """Refuse to import a class because a checkpoint says so: importing runs code.

    Raises:
        CheckpointError: The downsampler is a class by path, and the environment does not name it as trusted.
    """
    name = config.downsample.name
    if ":" in name and name not in os.environ.get(TRUST_VARIABLE, "").split(","):
        raise CheckpointError(
            f"{where} was trained with the downsampler class {name}, and loading it imports that module. If you trust "
            f"it, set {TRUST_VARIABLE}={name}"
        )


def _is_known(key: str) -> bool:
    """Return whether `--accept` may name a key: one of the configuration, or the annotations."""
    return key == ANNOTATIONS or key in known_keys()
