"""Whether the arms of a comparison match: they may differ in what is compared, and in nothing else."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rfdetr_hwd.checkpoint.read import Checkpoint
from rfdetr_hwd.checkpoint.record import recorded_config
from rfdetr_hwd.checkpoint.run_log import read_starts
from rfdetr_hwd.comparison.compare import ComparisonError
from rfdetr_hwd.comparison.status import FREE
from rfdetr_hwd.config.changes import changes, is_among
from rfdetr_hwd.config.load import known_keys, unknown_key
from rfdetr_hwd.config.schema import Config

_PACKAGES = ("torch", "torchvision", "rfdetr")


@dataclass(frozen=True)
class Facts:
    """What must match between the runs of a comparison.

    Attributes:
        config: Configuration of the run.
        values: Further values by name: data, classes, steps, weights, versions, precision.
    """

    config: Config
    values: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.config.train.seed


def read_facts(checkpoint: Checkpoint, weights: str) -> Facts:
    """Return what must match about a checkpoint.

    Args:
        checkpoint: Of a run.
        weights: The weights that are evaluated, `ema` or `raw`.
    """
    record = checkpoint.record
    *_, start = read_starts(checkpoint.run / "run.json") or [{}]
    environment = start.get("environment", {})
    versions = {name: environment.get("packages", {}).get(name) for name in _PACKAGES}
    values = {
        "training data": record.training_data.model_dump(),
        "validation data": record.validation_data.model_dump(),
        "classes": list(record.class_names),
        "steps": checkpoint.step,
        "weights": weights,
        "precision": start.get("precision"),
        "version of rfdetr_hwd": environment.get("rfdetr_hwd"),
        **{f"version of {name}": version for name, version in versions.items()},
    }
    return Facts(recorded_config(checkpoint), values)


def refuse_unmatched(facts: Mapping[str, Sequence[Facts]], varied: Sequence[str]) -> None:
    """Refuse arms that differ in more than what is compared.

    Args:
        facts: Facts of the runs of each arm.
        varied: Keys, or names of `Facts.values`, that the arms may differ in. A key that ends in a dot stands for a
            section.

    Raises:
        ComparisonError: Two runs differ in something else. The message names it with both values.
    """
    _check_names(varied, next((one for runs in facts.values() for one in runs), None))
    named = [(f"{arm}, seed {one.seed}", one) for arm, runs in facts.items() for one in runs]
    if not named:
        return
    first_name, first = named[0]
    for name, other in named[1:]:
        differences = {
            key: values
            for key, values in changes(first.config, other.config).items()
            if not is_among(key, (*FREE, "train.seed", *varied))
        }
        differences |= {
            key: (value, other.values[key])
            for key, value in first.values.items()
            if value != other.values[key] and key not in varied
        }
        if differences:
            told = [f"{key}: {_shown(one)} and {_shown(two)}" for key, (one, two) in differences.items()]
            remedy = " ".join(f"--vary {shlex.quote(key)}" for key in differences)
            raise ComparisonError(
                f"{first_name} and {name} differ in more than what is compared:\n  "
                + "\n  ".join(told)
                + f"\nTo compare them in this, add {remedy}"
            )


def _check_names(varied: Sequence[str], facts: Facts | None) -> None:
    """Refuse a key that does not exist: it would allow nothing, and say so nowhere."""
    for name in varied:
        is_section = name.endswith(".") and any(key.startswith(name) for key in known_keys())
        if not is_section and name not in known_keys() and (facts is None or name not in facts.values):
            raise ComparisonError(f"--vary {unknown_key(name)}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
