"""The result of a comparison, and its files: compare.json, and compare.md with a table for a paper."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rfdetr_hwd.comparison.artefact_cost import ModelCost
from rfdetr_hwd.comparison.noise import Spread, spread
from rfdetr_hwd.comparison.robustness import RobustnessValue, robustness_cells
from rfdetr_hwd.comparison.verdict import Verdict
from rfdetr_hwd.console import digits
from rfdetr_hwd.errors import writing
from rfdetr_hwd.files import replace_text


@dataclass(frozen=True)
class ArmResult:
    """What was measured of an arm.

    Attributes:
        values: The value of each metric by seed; `None`: no ground truth.
        verdicts: The judgement of each metric against the baseline; empty for the baseline itself.
        by_class: The judgement of the AP of each class, adjusted by Holm's method.
        error_costs: Mean AP50 that fixing each type of error would gain.
        by_size: AP and recall by size of the object in model pixels, of each seed, as rows of `SIZE_COLUMNS`.
        robustness: Metrics of shifts and corruptions by name, if every run has them.
        cost: Cost of the model as it is shipped, if it can be loaded.
    """

    values: Mapping[str, Mapping[int, float | None]]
    verdicts: Mapping[str, Verdict | None] = field(default_factory=dict)
    by_class: Mapping[str, Verdict] = field(default_factory=dict)
    error_costs: Mapping[str, float] = field(default_factory=dict)
    by_size: Sequence[Mapping[str, float | None]] = ()
    robustness: Mapping[str, RobustnessValue] = field(default_factory=dict)
    cost: ModelCost | None = None

    def spread(self, metric: str) -> Spread | None:
        """Return a metric over the seeds; `None`: no ground truth."""
        known = {seed: value for seed, value in self.values[metric].items() if value is not None}
        return spread(known) if known else None


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        baseline: The arm that the others are compared with.
        arms: What was measured, by name of the arm, the baseline first.
        metrics: The compared metrics. The first one decides.
        protocol: How it was measured, in words by name.
        notes: What a reader must know: skipped seeds, selection on the compared images, and the like.
    """

    baseline: str
    arms: Mapping[str, ArmResult]
    metrics: Sequence[str]
    protocol: Mapping[str, Any]
    notes: Sequence[str]

    def verdicts(self) -> Iterator[tuple[str, ArmResult]]:
        """Yield every arm but the baseline."""
        return ((name, arm) for name, arm in self.arms.items() if name != self.baseline)

    def with_costs(self, costs: Mapping[str, ModelCost]) -> "Comparison":
        """Return the comparison with the cost of each arm's model."""
        return replace(self, arms={name: replace(arm, cost=costs.get(name)) for name, arm in self.arms.items()})

    def lead(self) -> list[str]:
        """Return the judgement of each arm, a sentence each."""
        metric = self.metrics[0]
        return [
            f"{name} against {self.baseline}, {metric}: "
            f"{'no ground truth' if (verdict := arm.verdicts[metric]) is None else verdict.text}."
            for name, arm in self.verdicts()
        ]


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write compare.json and compare.md.

    Raises:
        ConfigError: A file cannot be written.
    """
    with writing("--out", folder):
        replace_text(folder / "compare.json", json.dumps(as_json(comparison), indent=2))
        replace_text(folder / "compare.md", as_markdown(comparison))


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values."""
    arms = {
        name: {
            "values": arm.values,
            "error_costs": arm.error_costs,
            "by_size": arm.by_size,
            "robustness": {metric: asdict(value) for metric, value in arm.robustness.items()},
            "cost": arm.cost._asdict() if arm.cost else None,
        }
        for name, arm in comparison.arms.items()
    }
    comparisons = [
        {
            "arm": name,
            "baseline": comparison.baseline,
            "metrics": {metric: asdict(verdict) if verdict else None for metric, verdict in arm.verdicts.items()},
            "classes": {metric: asdict(verdict) for metric, verdict in arm.by_class.items()},
        }
        for name, arm in comparison.verdicts()
    ]
    return {
        "baseline": comparison.baseline,
        "comparisons": comparisons,
        "arms": arms,
        "protocol": comparison.protocol,
        "notes": comparison.notes,
    }


def value_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the table of values: for each arm each metric as mean over the seeds, with the range below it."""
    return [
        (name, *(_shown(arm.spread(metric)) for metric in comparison.metrics)) for name, arm in comparison.arms.items()
    ]


def verdict_rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return the table of verdicts: arm, metric, verdict with its interval."""
    return [
        (name, metric, "no ground truth" if verdict is None else verdict.text)
        for name, arm in comparison.verdicts()
        for metric, verdict in arm.verdicts.items()
    ]


def noise_rows(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Return the table of noise: arm, seeds, smallest difference that could be shown, seeds needed for each planned."""
    rows = []
    for name, arm in comparison.verdicts():
        verdict = arm.verdicts[comparison.metrics[0]]
        if verdict is not None:
            needed = ", ".join(f"{gap:g}: {count or 'more images'}" for gap, count in verdict.seeds_needed.items())
            shown = digits(verdict.smallest_difference) if verdict.smallest_difference is not None else "unknown"
            rows.append((name, str(verdict.num_seeds), shown, needed if verdict.num_seeds > 1 else "unknown"))
    return rows


def robustness_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the table of robustness: arm, metric, mean over the seeds, difference with its range, interval."""
    return [(name, *cells) for name, arm in comparison.arms.items() for cells in robustness_cells(arm.robustness)]


def cost_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the table of costs: parameters, multiply-adds, latency, its ratio to the baseline's, and what it is of."""
    return [
        (
            name,
            f"{cost.parameters / 1e6:.2f} M",
            f"{cost.multiply_adds / 1e9:.3f} G",
            f"{cost.latency_ms:.1f} ms",
            f"{cost.latency_ratio:.2f} [{cost.latency_ratio_low:.2f}, {cost.latency_ratio_high:.2f}]",
            "stock RF-DETR, folded" if cost.is_folded else "not foldable",
        )
        for name, arm in comparison.arms.items()
        if (cost := arm.cost) is not None
    ]


VALUE_HEADER = ("arm",)
VERDICT_HEADER = ("arm", "metric", "against the baseline")
NOISE_HEADER = ("arm", "seeds", "smallest difference shown at 80 % power", "seeds needed for a difference of")
ROBUSTNESS_HEADER = ("arm", "metric", "mean", "difference [range over seeds]", "95 % interval, seeds only")
COST_HEADER = ("arm", "parameters", "multiply-adds", "latency", "ratio", "measured on")


def as_markdown(comparison: Comparison) -> str:
    """Return a comparison as Markdown: the judgement, the tables, and the protocol."""
    parts = [
        f"# Comparison with {_escape(comparison.baseline)}\n",
        "\n".join(_escape(sentence) for sentence in comparison.lead()) + "\n",
        _table((*VALUE_HEADER, *comparison.metrics), value_rows(comparison)),
        "Values are means over the seeds, with the range in brackets.\n",
        _table(VERDICT_HEADER, verdict_rows(comparison)),
        "Differences are paired by seed and image. Brackets hold 95 % intervals.\n",
        _table(NOISE_HEADER, noise_rows(comparison)),
    ]
    if robustness := robustness_rows(comparison):
        parts += [_table(ROBUSTNESS_HEADER, robustness), "These intervals hold other seeds, but not other images.\n"]
    if costs := cost_rows(comparison):
        parts += [_table(COST_HEADER, costs), "Latency is that of one image, measured in turns.\n"]
    parts += [f"- {_escape(note)}" for note in comparison.notes]
    parts += [f"- {name}: {_escape(str(value))}" for name, value in comparison.protocol.items()]
    return "\n".join(parts) + "\n"


def _shown(values: Spread | None) -> str:
    if values is None:
        return "-"
    if values.low == values.high:
        return digits(values.mean)
    return f"{digits(values.mean)} [{digits(values.low)}, {digits(values.high)}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_escape, line))} |" for line in lines) + "\n"


def _escape(text: str) -> str:
    """Return text that is one cell of a Markdown table: names come from users."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
