"""Shifts and corruptions in a comparison: as means over the seeds, and as differences of paired seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from scipy import special

from rfdetr_hwd.comparison.noise import TAIL, Spread, spread
from rfdetr_hwd.config.robustness import Robustness
from rfdetr_hwd.data.corruptions import KINDS

Part = Literal["shifts", "corruptions"]
PARTS: dict[Part, tuple[str, ...]] = {
    "shifts": ("kept_mean", "score_change_mean", "AP_worst", "AP_best"),
    "corruptions": ("mPC", "rPC"),
}
"""The compared metrics of each part."""


class _Recorded(BaseModel):
    """A part of `metrics.json`, which may hold more."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Shifts(_Recorded):
    """What `measure_shifts` returns."""

    AP: tuple[float | None, ...]
    kept_mean: float | None
    score_change_mean: float | None
    AP_worst: float | None
    AP_best: float | None

    @property
    def extent(self) -> object:
        """What was measured. Metrics of one extent can be compared."""
        return len(self.AP) - 1


class Corruptions(_Recorded):
    """What `measure_corruptions` returns."""

    AP: dict[str, dict[int, float | None]]
    mPC: float | None  # noqa: N815  # its published name
    rPC: float | None  # noqa: N815

    @property
    def extent(self) -> object:
        """What was measured. Metrics of one extent can be compared."""
        return {kind: set(aps) for kind, aps in self.AP.items()}


class Measurement(_Recorded):
    """The robustness of one run, as far as it was measured."""

    shifts: Shifts | None = None
    corruptions: Corruptions | None = None

    def covers(self, wanted: Robustness) -> bool:
        """Return whether it is what is wanted, which leaves out what is not."""
        has_shifts = self.shifts is not None and self.shifts.extent == wanted.shifts
        severities = dict.fromkeys(KINDS, set(wanted.severities))
        has_corruptions = self.corruptions is not None and self.corruptions.extent == severities
        return (has_shifts or not wanted.shifts) and (has_corruptions or not wanted.corruptions)


def read_measurement(recorded: object) -> Measurement:
    """Return the robustness that a `metrics.json` records; an empty one if it records none."""
    try:
        return Measurement.model_validate(recorded)
    except ValidationError:
        return Measurement()


@dataclass(frozen=True)
class SeedDifference:
    """A metric of an arm less that of the baseline, paired by seed.

    Attributes:
        by_seed: The difference of each seed.
        spread: Its mean and range over the seeds.
        interval: 95 % interval by Student's t. It is of other seeds on the same images; `None` with one seed.
    """

    by_seed: Mapping[int, float]
    spread: Spread
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class RobustnessValue:
    """A metric of robustness of an arm.

    Attributes:
        mean: Mean over the seeds; `None`: undefined, such as the fraction of no detections.
        difference: To the baseline; `None` for the baseline itself, and where a metric is undefined.
    """

    mean: float | None
    difference: SeedDifference | None


def compare_robustness(
    arms: Mapping[str, Mapping[int, Measurement]], baseline: str
) -> tuple[dict[str, dict[str, RobustnessValue]], list[str]]:
    """Return the robustness of each arm, metrics by name, and notes about what is not compared.

    Args:
        arms: The measurements of each arm by seed. Every arm has the same seeds.
        baseline: The arm that the others are compared with.
    """
    runs = [(arm, run) for arm, of_arm in arms.items() for run in of_arm.values()]
    compared: dict[str, dict[str, RobustnessValue]] = {arm: {} for arm in arms}
    notes = []
    for part, metrics in PARTS.items():
        found = [(arm, getattr(run, part)) for arm, run in runs]
        extents = [one.extent for _, one in found if one is not None]
        # Metrics of other shifts or severities are other metrics.
        if extents and (len(extents) < len(found) or any(extent != extents[0] for extent in extents)):
            without = sorted({arm for arm, one in found if one is None})
            reason = f"{', '.join(without)} has none" if without else "the runs were measured with different ones"
            notes.append(f"{part} are not compared: {reason}. Measure all runs with the same options")
        elif extents:
            for arm, name in ((arm, name) for arm in arms for name in metrics):
                values, reference = (_values(arms[key], part, name) for key in (arm, baseline))
                compared[arm][name] = _compare(values, None if arm == baseline else reference)
    return compared, notes


def _values(runs: Mapping[int, Measurement], part: Part, name: str) -> dict[int, float]:
    """Return the metric of each seed that it is defined for."""
    values = {seed: getattr(getattr(run, part), name) for seed, run in runs.items()}
    return {seed: value for seed, value in values.items() if value is not None}


def _compare(values: Mapping[int, float], reference: Mapping[int, float] | None) -> RobustnessValue:
    mean = spread(values).mean if values else None
    differences = {seed: value - reference[seed] for seed, value in values.items() if reference and seed in reference}
    if not differences:
        return RobustnessValue(mean, None)
    over_seeds = spread(differences)
    return RobustnessValue(mean, SeedDifference(differences, over_seeds, _interval(over_seeds, len(differences))))


def _interval(differences: Spread, num_seeds: int) -> tuple[float, float] | None:
    if differences.deviation is None:
        return None
    half = -float(special.stdtrit(num_seeds - 1, TAIL)) * differences.deviation / num_seeds**0.5
    return differences.mean - half, differences.mean + half


def robustness_cells(values: Mapping[str, RobustnessValue]) -> Sequence[tuple[str, ...]]:
    """Return the rows of an arm: metric, mean over the seeds, difference with its range, interval."""
    rows = []
    for name, value in values.items():
        change, interval = "-", "-"
        if value.difference is not None:
            over_seeds = value.difference.spread
            change = f"{over_seeds.mean:+.4f} [{over_seeds.low:+.4f}, {over_seeds.high:+.4f}]"
            if value.difference.interval is not None:
                interval = "[{:+.4f}, {:+.4f}]".format(*value.difference.interval)
        rows.append((name, "-" if value.mean is None else f"{value.mean:.4f}", change, interval))
    return rows
