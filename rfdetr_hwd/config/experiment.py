"""An experiment: a base configuration, arms that differ from it, and seeds.

Like the schema of a run, this module imports neither torch nor rfdetr.
"""

import json
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, NonNegativeInt, ValidationError, field_validator, model_validator

from rfdetr_hwd.config.load import known_keys, load_config
from rfdetr_hwd.config.robustness import Robustness
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.config.section import Section
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.files import read_yaml

_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_SET_BY_THE_EXPERIMENT = ("train.seed", "output.dir")

Overrides = dict[str, Any]
"""Values by dotted key of the configuration."""

_FORMS: Mapping[str, str] = {
    "base.": "must be the path of a configuration file",
    "overrides.": "must be keys with values, such as {train.epochs: 12}",
    "arms.": "must be names, each with keys and values, such as {conv: {downsample.name: conv3x3}, hwd: {}}",
    "seeds.": "must be a list of different whole numbers from 0, such as [0, 1, 2]",
    "comparison.baseline.": "must be the name of an arm",
    "comparison.metrics.": "must be a list of names of metrics, such as [AP, AP_small]",
    "comparison.margin.": "must be a number from 0 to 1",
    "comparison.weights.": "must be ema or raw",
    "comparison.split.": "must be val or test",
    "comparison.shifts.": "must be a whole number from 0 to 32",
    "comparison.corruptions.": "must be true or false",
    "comparison.severities.": "must be a list of different whole numbers from 1 to 5, such as [1, 3, 5]",
    "comparison.": "must be keys with values, such as {margin: 0.005}",
    "output.": "must be the path of a directory",
}
"""What the value of each key must be. The first that a key begins with applies."""


def check_arm_name(name: str) -> None:
    """Refuse the name of an arm that cannot be the name of a directory everywhere.

    Raises:
        ValueError: It is not 1 to 64 ASCII letters, digits and . _ + -, the first a letter or digit.
    """
    if not _ARM_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not the name of an arm: use up to 64 ASCII letters, digits and . _ + -, first a letter or "
            "digit"
        )


class ComparisonSection(Robustness):
    """How the arms are compared, and which robustness beside AP."""

    baseline: str | None = None
    """The arm that every other arm is compared with. `null`: the first one."""
    metrics: tuple[str, ...] = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    """Metrics to compare. The first one decides."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.005
    """Arms whose difference lies within plus or minus this are equivalent. 0.005 is half an AP point."""
    weights: Literal["ema", "raw"] = "ema"
    """Weights of the last checkpoint to evaluate, the same for every arm."""
    split: Literal["val", "test"] = "val"
    """Split to evaluate on."""


class Experiment(Section):
    """A whole experiment."""

    base: str
    """Configuration of every run. The path is absolute or relative to the experiment's file."""
    overrides: Overrides = {}
    """Values that replace those of the base, for every arm."""
    arms: dict[str, Overrides]
    """What each arm changes. An empty arm is the base itself."""
    seeds: tuple[NonNegativeInt, ...]
    """Seeds of the runs. Each arm is trained once with each seed."""
    comparison: ComparisonSection = ComparisonSection()
    output: str
    """Directory of the experiment. A run is in ARM/seed-K."""

    @field_validator("arms")
    @classmethod
    def _check_arms(cls, arms: dict[str, Overrides]) -> dict[str, Overrides]:
        if len(arms) < 2:
            raise ValueError("an experiment needs at least two arms")
        for name, overrides in arms.items():
            check_arm_name(name)
            own = [key for key in _SET_BY_THE_EXPERIMENT if key in dotted(overrides)]
            if own:
                raise ValueError(f"the arm {name} sets {own[0]}, which the experiment sets")
        return arms

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"must be one or more different seeds, not {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _check_baseline(self) -> Self:
        if self.comparison.baseline not in (None, *self.arms):
            raise ValueError(f"comparison.baseline is {self.comparison.baseline!r}, but the arms are {[*self.arms]}")
        return self

    @property
    def baseline(self) -> str:
        """The arm that every other arm is compared with."""
        return self.comparison.baseline or next(iter(self.arms))


class PlannedRun(NamedTuple):
    """A run of an experiment.

    Attributes:
        arm: Name of its arm.
        seed: Its seed.
        config: Its configuration.
    """

    arm: str
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """Its name, which is also its path in the directory of the experiment."""
        return f"{self.arm}/seed-{self.seed}"

    @property
    def path(self) -> Path:
        """Its run directory."""
        return Path(self.config.output.dir)


class Plan(NamedTuple):
    """An experiment with the configuration of each run.

    Attributes:
        experiment: The experiment.
        runs: Its runs, a seed of all arms after the other, so that the first comparison is possible early.
    """

    experiment: Experiment
    runs: tuple[PlannedRun, ...]

    def of_arm(self, arm: str) -> Iterator[PlannedRun]:
        """Yield the runs of an arm, by seed."""
        return (run for run in self.runs if run.arm == arm)


def load_experiment(path: Path, assignments: Sequence[str] = ()) -> Plan:
    """Read an experiment and check the configuration of each of its runs.

    Args:
        path: YAML file, at most 1 MiB, without aliases.
        assignments: `key=value` overrides of every run, which come after those of the file and before the arms'.

    Raises:
        ConfigError: The file cannot be read, a key is unknown, a value is not allowed, or two arms are the same.
    """
    # Read the experiment.
    try:
        experiment = Experiment.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigError("\n  ".join([f"{path} is not valid:", *map(_explain, error.errors())])) from None
    # Resolve the configuration of each run.
    runs = tuple(
        _plan_run(experiment, path, arm, seed, assignments) for seed in experiment.seeds for arm in experiment.arms
    )
    _refuse_equal_arms(path, experiment, runs)
    return Plan(experiment, runs)


def _plan_run(experiment: Experiment, path: Path, arm: str, seed: int, assignments: Sequence[str]) -> PlannedRun:
    base = path.parent / experiment.base
    overrides = [
        *_as_assignments(experiment.overrides),
        *assignments,
        *_as_assignments(experiment.arms[arm]),
        f"train.seed={seed}",
        f"output.dir={json.dumps(str(Path(experiment.output) / arm / f'seed-{seed}'))}",
    ]
    try:
        return PlannedRun(arm, seed, load_config(base, overrides))
    except ConfigError as error:
        raise ConfigError(f"{path}: arm {arm}: {error}") from None


def dotted(overrides: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return overrides by dotted key, which may also be nested as in a configuration."""
    known, found = set(known_keys()), {}
    for name, value in overrides.items():
        key = f"{prefix}{name}"
        found.update({key: value} if key in known or not isinstance(value, Mapping) else dotted(value, f"{key}."))
    return found


def _as_assignments(overrides: Overrides) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in dotted(overrides).items()]  # YAML reads JSON


def _refuse_equal_arms(path: Path, experiment: Experiment, runs: Sequence[PlannedRun]) -> None:
    first = {run.arm: run.config.model_dump(exclude={"output"}) for run in runs if run.seed == experiment.seeds[0]}
    arms = list(first)
    for number, arm in enumerate(arms):
        for other in arms[:number]:
            if first[arm] == first[other]:
                raise ConfigError(f"{path}: the arms {other} and {arm} are the same")


def _explain(detail: Mapping[str, Any]) -> str:
    key = ".".join(map(str, detail["loc"]))
    form = next((form for name, form in _FORMS.items() if f"{key}.".startswith(name)), "")
    match detail["type"]:
        case "extra_forbidden":
            section = ComparisonSection if key.startswith("comparison.") else Experiment
            return f"{key}: unknown key; the known keys are {', '.join(section.model_fields)}"
        case "missing":
            return f"{key}: required"
        case "value_error":
            return f"{key}: {detail['ctx']['error']}" if key else str(detail["ctx"]["error"])
        case _:
            return f"{key} = {reprlib.repr(detail['input'])}: {form}"
