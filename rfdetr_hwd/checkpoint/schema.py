"""What the JSON files of a checkpoint hold: its manifest and its record. Types are strict, unknown keys are refused."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr

from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.validation import Count, Finite
from rfdetr_hwd.data.holdout import HeldOut

FORMAT = 6
READABLE = (4, 5, FORMAT)
"""Formats that can be read. `in_todays_words` says how the earlier ones differ."""


class _Strict(BaseModel):
    """Its fields have strict types: with `strict=True`, pydantic would take no object for a model inside another."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Strict):
    """A file of a checkpoint, as it was written."""

    sha256: StrictStr
    bytes: Count


class Manifest(_Strict):
    """manifest.json, without its own hash."""

    format: StrictInt
    state: TrainState
    files: dict[StrictStr, FileEntry]


class DataIdentity(_Strict):
    """A split: its counts, and the hash of its annotations."""

    images: Count
    boxes: Count
    sha256: StrictStr


class NonFinitePart(_Strict):
    """One rank's part of a failed step: its images, and its loss terms as text, because JSON has no NaN."""

    image_ids: tuple[StrictInt, ...]
    terms: dict[StrictStr, StrictStr]


class Record(_Strict):
    """record.json: the configuration and classes, which rebuild the model, and the identity of its data."""

    config: dict[StrictStr, Any]
    """Not validated here: `recorded_config` does it, with the keys of its time."""
    class_names: tuple[StrictStr, ...]
    category_ids: tuple[StrictInt, ...]
    training_data: DataIdentity
    validation_data: DataIdentity
    held_out: HeldOut | None = None
    class_weights: tuple[Finite, ...] | None = None
    """Of the classification loss, in label order; `None`: no weights."""
    non_finite: tuple[NonFinitePart, ...] | None = None
    """Of each rank, in the bundle of a failed step."""


_FORMER_NAMES = {"figures": "metrics", "figures_step": "metrics_step", "update_in_epoch": "step_in_epoch"}


def in_todays_words(written: int, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a manifest as today's format has it. The values are not trusted.

    Up to format 5, metrics were called figures, steps updates, and raw weights plain. Up to format 4, -1 stood for an
    undefined metric.

    Args:
        written: Format of the checkpoint.
        state: The recorded state.
    """
    renamed = dict(state)
    if written <= 5:
        renamed = {_FORMER_NAMES.get(name, name): value for name, value in state.items()}
        if renamed.get("best_weights") == "plain":
            renamed["best_weights"] = "raw"
        if isinstance(metrics := renamed.get("metrics"), dict):
            renamed["metrics"] = {re.sub("^plain/", "raw/", name): value for name, value in metrics.items()}
    if written <= 4:
        renamed["best_ap"] = _without_sentinel(renamed.get("best_ap"))
        if isinstance(metrics := renamed.get("metrics"), dict):
            renamed["metrics"] = {name: _without_sentinel(value) for name, value in metrics.items()}
    return renamed


def _without_sentinel(value: Any) -> Any:
    return None if value == -1 else value
