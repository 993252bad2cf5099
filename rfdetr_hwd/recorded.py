"""What a run or a checkpoint records: finding it, reading it, and what may be changed about it."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rfdetr_hwd.config import Config
from rfdetr_hwd.engine.checkpoint import Checkpoint, CheckpointError, newest_checkpoint, open_checkpoint
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.read_config import known_keys, parse_config

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
    origin = f"{checkpoint.path}/record.json"
    wanted = parse_config(config, overrides, origin)
    _refuse(changes(parse_config(config, origin=origin), wanted), MEASURABLE, "a trained model")
    refuse_untrusted_class(wanted, str(checkpoint.path))
    return wanted, tuple(map(str, class_names))


def check_changes(recorded: Config, wanted: Config, accepted: Sequence[str]) -> None:
    """Refuse a configuration that would make a resumed run another one.

    Raises:
        ConfigError: A key differs that may not, and is not accepted; or what is accepted never can be.
    """
    for key in accepted:
        if key != ANNOTATIONS and not (_matches(key, ACCEPTABLE) and key in known_keys()):
            choices = ", ".join((ANNOTATIONS, *map(_shown, ACCEPTABLE)))
            raise ConfigError(f"--accept {key}: that is never accepted; what can be is {choices}")
    changed = changes(recorded, wanted)
    _refuse({key: changed[key] for key in changed if key not in accepted}, RESUMABLE, "a resumed run")
    for key in accepted:
        if key not in (*changed, ANNOTATIONS):
            logger.warning("--accept %s: it is as it was", key)
    bends = recorded.train.schedule == "cosine" and wanted.train.epochs != recorded.train.epochs
    if bends and "train.epochs" not in accepted:
        raise ConfigError(
            "train.epochs cannot be changed for a resumed run with train.schedule=cosine: it bends it. Continue with "
            "--accept train.epochs if that is meant"
        )


def changes(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two configurations differ, with the value in each of them."""
    before, after = (dict(_flat(config.model_dump(mode="json"))) for config in (one, other))
    pairs = {key: (before.get(key), after.get(key)) for key in {**before, **after}}
    return {key: (was, now) for key, (was, now) in pairs.items() if was != now}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _refuse(changed: Mapping[str, tuple[Any, Any]], allowed: Sequence[str], what: str) -> None:
    refused = {key: values for key, values in changed.items() if not _matches(key, allowed)}
    if not refused:
        return
    named = (f"{key} (was {json.dumps(was)}, is {json.dumps(now)})" for key, (was, now) in refused.items())
    message = f"{', '.join(named)} cannot be changed for {what}; what can is {', '.join(map(_shown, allowed))}"
    acceptable = [key for key in refused if what == "a resumed run" and _matches(key, ACCEPTABLE)]
    if acceptable:
        message += f". If the change is meant, say so with {' '.join(f'--accept {key}' for key in acceptable)}"
    raise ConfigError(message)


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
