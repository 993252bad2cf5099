"""Changes allowed when a run is resumed or a model is evaluated later, and their consequences."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rfdetr_hwd.config.augmentation import PRESET
from rfdetr_hwd.config.load import known_keys, unknown_key
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.errors import ConfigError

RESUMABLE = (
    *("data.root", "data.workers", "data.worker_timeout", "evaluation.", "output."),
    *("train.epochs", "train.early_stop", "train.log_every"),
    *("train.micro_batch", "train.max_hours", "train.deterministic"),
)
"""Keys that may change when a run is resumed. Its steps do not depend on them."""

ACCEPTABLE = ("data.", "train.", "amp", "model.dropout", "model.drop_path", "model.gradient_checkpointing")
"""Keys that may also change, with `--accept`. The steps of the run then change."""

ANNOTATIONS = "annotations"
"""Name of the training annotations in `--accept`. Changed classes cannot be accepted: the class head would mean
others."""

REORDERING = (
    *("data.train", "data.format", "data.val_fraction", "data.val_seed", "data.val_part"),
    *("data.sampling", "data.repeat_threshold", "data.background_fraction"),
    *("train.batch_size", "train.last_batch", "train.seed", ANNOTATIONS),
)
"""Changes after which the current epoch holds other images. It is restarted."""

REMEASURING = ("data.bit_depth", "data.exif")
"""Changes to the validation images. APs before and after cannot be compared. They can after another
`evaluation.backend`: the libraries agree to 1e-9."""

REFITTING = ("amp", "model.gradient_checkpointing", "train.micro_batch", "train.multi_scale", "train.ema")
"""Changes after which the micro-batch is found again."""

MEASURABLE = ("data.", "evaluation.", "amp", "model.num_select")
"""Keys that may differ between training and a later evaluation."""


def check_changes(recorded: Config, wanted: Config, accepted: Sequence[str]) -> set[str]:
    """Refuse a configuration that would change the steps of a resumed run. Return the keys that differ.

    Raises:
        ConfigError: A key differs and is neither allowed nor accepted, or an accepted key cannot be accepted.
    """
    # Check that each accepted change can be accepted.
    for key in set(accepted) - {ANNOTATIONS}:
        choices = ", ".join((ANNOTATIONS, *map(_shown, ACCEPTABLE)))
        if key not in known_keys():
            raise ConfigError(f"--accept {unknown_key(key)}. Changes that can be accepted: {choices}")
        if not is_among(key, ACCEPTABLE):
            raise ConfigError(
                f"--accept {key}: this change cannot be accepted. Changes that can be accepted: {choices}"
            )
    # Refuse changes that are not. An accepted preset brings its parts.
    changed = changes(recorded, wanted)
    parts = (PRESET.removesuffix("preset"),) if PRESET in accepted else ()
    refuse({key: changed[key] for key in changed if not is_among(key, (*accepted, *parts))}, RESUMABLE, "a resumed run")
    # The number of epochs may change, but not where the steps depend on it.
    if wanted.train.epochs != recorded.train.epochs and "train.epochs" not in accepted:
        _refuse_other_epochs(recorded)
    return set(changed)


def _refuse_other_epochs(recorded: Config) -> None:
    """Refuse another number of epochs where the learning-rate curve or the augmentation depends on it."""
    augment = recorded.data.augment
    for is_dependent, cause, effect in (
        (recorded.train.schedule == "cosine", "train.schedule=cosine", "the learning-rate curve"),
        (
            augment.is_mixing and augment.unmixed_epochs > 0,
            f"data.augment.unmixed_epochs={augment.unmixed_epochs}",
            "which epochs are without mosaic and mixup",
        ),
    ):
        if is_dependent:
            raise ConfigError(
                f"train.epochs cannot be changed for a resumed run with {cause}: this would change {effect}. To "
                "change it anyway, resume with --accept train.epochs"
            )


def changes(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys in which two configurations differ, with the value in each of them."""
    before, after = (dict(_flat(config.model_dump(mode="json"))) for config in (one, other))
    pairs = {key: (before.get(key), after.get(key)) for key in {**before, **after}}
    return {key: (was, now) for key, (was, now) in pairs.items() if was != now}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    leaves = set(known_keys())
    for key, value in values.items():
        if isinstance(value, Mapping) and prefix + key not in leaves:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def refuse(changed: Mapping[str, tuple[Any, Any]], allowed: Sequence[str], what: str) -> None:
    """Refuse changes that are not allowed.

    Args:
        changed: From `changes`.
        allowed: Keys. A key that ends in a dot stands for a section.
        what: The changed thing, for the message.

    Raises:
        ConfigError: There are such changes. The message names them with both values.
    """
    refused = {key: values for key, values in changed.items() if not is_among(key, allowed)}
    if not refused:
        return
    named = (f"{key} (was {json.dumps(was)}, is {json.dumps(now)})" for key, (was, now) in refused.items())
    message = f"{', '.join(named)} cannot be changed for {what}. Keys that can: {', '.join(map(_shown, allowed))}"
    acceptable = [key for key in refused if what == "a resumed run" and is_among(key, ACCEPTABLE)]
    if acceptable:
        message += f". To change it anyway, add {' '.join(f'--accept {key}' for key in acceptable)}"
    raise ConfigError(message)


def is_among(key: str, names: Sequence[str]) -> bool:
    """Return whether a key is among names. A name that ends in a dot stands for a section."""
    return any(key == name or (name.endswith(".") and key.startswith(name)) for name in names)


def _shown(name: str) -> str:
    return f"{name}*" if name.endswith(".") else name
