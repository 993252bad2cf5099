"""Plot how a run was trained, from the records that it leaves: losses, AP, learning rates, speed, memory, bands."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rfdetr_hwd.report.plots import BAR, INK, NARROW, draw_axes, draw_legend

Record = Mapping[str, Any]
_EMA, _GREEN, _ORANGE = "#c8443c", "#2f8f5b", "#e07b00"
_COLOURS = (BAR, _EMA, _GREEN, _ORANGE, "#7b4fd3", "#0f9d8f")
_BANDS = {"LL": "#4a7fb5", "cH": "#e07b00", "cV": "#2f8f5b", "cD": "#7b4fd3", "outside": "#a8b0b9"}
"""Haar bands, in the order in which they are stacked, with their colours."""
_BRANCHES = 6  # of them, at most, bands are plotted


@dataclass(frozen=True)
class RunRecords:
    """What a run recorded while it was trained.

    Attributes:
        metrics: Records of metrics.jsonl: losses and rates of logged steps, metrics and bands of evaluations.
        speed: Records of speed.jsonl.
        starts: Entries of run.json, one per start.
        config: Values of config.yaml.
    """

    metrics: Sequence[Record] = ()
    speed: Sequence[Record] = ()
    starts: Sequence[Record] = ()
    config: Record = field(default_factory=dict)

    @property
    def resumes(self) -> list[int]:
        """Steps at which the run was resumed and continued."""
        steps = [start.get("step") for start in self.starts]
        return [step for step in steps if isinstance(step, int) and 0 < step < self.last_step]

    @property
    def last_step(self) -> int:
        """Last step of any record, at least 1."""
        return max([1, *(int(record["step"]) for record in (*self.metrics, *self.speed))])


def plot_losses(run: RunRecords) -> Figure | None:
    """Plot the loss, and its terms of the last decoder layer. `None`: there is no record of it."""
    names = {
        "loss": "loss, all terms",
        "loss/loss_ce": "class",
        "loss/loss_bbox": "box, L1",
        "loss/loss_giou": "box, GIoU",
    }
    return _plot_lines("Training loss", "loss (logarithmic)", run, run.metrics, names, is_log=True)


def plot_precision(run: RunRecords) -> Figure | None:
    """Plot AP and AP50 of each evaluation, of the EMA and the raw weights. `None`: there is no record of it."""
    names = {"ema/AP": "AP, EMA", "raw/AP": "AP, raw", "ema/AP50": "AP50, EMA", "raw/AP50": "AP50, raw"}
    return _plot_lines("Validation AP", "AP", run, run.metrics, names, marker="o")


def plot_rates(run: RunRecords) -> Figure | None:
    """Plot the learning rates. `None`: there is no record of them."""
    names = {"lr": "new layers", "lr_decoder": "decoder", "lr_encoder": "encoder"}
    return _plot_lines("Learning rate", "highest of each part", run, run.metrics, names)


def plot_speed(run: RunRecords) -> Figure | None:
    """Plot the images trained on in a second. `None`: there is no record of them."""
    return _plot_lines("Training speed", "images per second", run, run.speed, {"images_per_second": "images/s"})


def plot_memory(run: RunRecords) -> Figure | None:
    """Plot the peak memory. `None`: there is no record of it."""
    return _plot_lines("Peak memory", "GiB", run, run.speed, {"memory_gib": "memory"})


def plot_bands(run: RunRecords) -> Figure | None:
    """Plot the fraction of each downsampler's energy in each Haar band over training, one row per branch."""
    # Find the modules that have records
    paths = _branches(run)[:_BRANCHES]
    if not paths:
        return None

    # Draw a row for each
    figure, first = draw_axes("", "", "", height=0.9 + 1.9 * len(paths), is_whole=False)
    first.remove()
    for number, path in enumerate(paths, start=1):
        axes = figure.add_subplot(len(paths), 1, number)
        steps, fractions = _band_fractions(run, path)
        if len(steps) == 1:  # a single evaluation is drawn as a constant
            steps, fractions = [0, steps[0]], np.repeat(fractions, 2, axis=1)
        areas = axes.stackplot(steps, fractions, colors=list(_BANDS.values()), labels=list(_BANDS))
        for area in areas:
            area.set_linewidth(0)
        axes.set_title(path, loc="left", size=9.5, color=INK, parse_math=False)
        axes.set_ylim(0, 1)
        axes.set_xlim(0, run.last_step)
        axes.tick_params(labelsize=9, colors=INK, length=3)
        axes.spines[["top", "right"]].set_visible(False)
        _mark_resumes(axes, run.resumes)
        if number == 1:
            axes.legend(fontsize=9, frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1.12))
    axes.set_xlabel("optimizer step", color=INK, size=9.5)
    return figure


def last_bands(run: RunRecords) -> list[tuple[str, list[float]]]:
    """Return each branch with its fractions LL, cH, cV, cD, outside at the last evaluation."""
    return [(path, [float(value) for value in _band_fractions(run, path)[1][:, -1]]) for path in _branches(run)]


def drawn_per_epoch(run: RunRecords) -> dict[str, float]:
    """Return how many images, and objects of each class, an evaluated epoch drew on average; empty if all are drawn."""
    records = [record for record in run.metrics if _is_number(record.get("drawn/images"))]
    names = dict.fromkeys(name for record in records for name in record if name.startswith("drawn/"))
    return {name.removeprefix("drawn/"): float(np.mean([record.get(name, 0) for record in records])) for name in names}


def _branches(run: RunRecords) -> list[str]:
    names = (name for record in run.metrics for name in record if name.startswith("bands/"))
    return list(dict.fromkeys(name.removeprefix("bands/").rpartition("/")[0] for name in names))


def _band_fractions(run: RunRecords, path: str) -> tuple[list[int], NDArray[np.float64]]:
    """Return the steps (S,) and the fractions (5, S) of one module."""
    records = [record for record in run.metrics if _is_number(record.get(f"bands/{path}/LL"))]
    values = [[record.get(f"bands/{path}/{band}", 0.0) for record in records] for band in _BANDS]
    return [int(record["step"]) for record in records], np.array(values, np.float64)


def _plot_lines(
    title: str,
    ylabel: str,
    run: RunRecords,
    records: Sequence[Record],
    names: Mapping[str, str],
    is_log: bool = False,
    marker: str = "",
) -> Figure | None:
    lines = {name: _series(records, name) for name in names}
    known = {name: line for name, line in lines.items() if line[0]}
    if not known:
        return None

    # Leave out lines that repeat another one
    distinct = [name for number, name in enumerate(known) if known[name] not in list(known.values())[:number]]
    figure, axes = draw_axes(title, "optimizer step", ylabel, 3.4, NARROW, is_whole=False)
    for name, colour in zip(distinct, itertools.cycle(_COLOURS)):
        steps, values = known[name]
        axes.plot(steps, values, color=colour, linewidth=1.6, marker=marker, markersize=4, label=names[name])
    if is_log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.12 * max(max(known[name][1]) for name in distinct) or 1)
    axes.set_xlim(0, run.last_step)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    _mark_resumes(axes, run.resumes)
    if len(distinct) > 1:
        draw_legend(axes)
    return figure


def _series(records: Iterable[Record], name: str) -> tuple[list[int], list[float]]:
    """Return the steps and the values of one name, where it is recorded as a finite number."""
    pairs = [(record["step"], float(record[name])) for record in records if _is_number(record.get(name))]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _mark_resumes(axes: Axes, steps: Sequence[int]) -> None:
    for number, step in enumerate(steps):
        label = "resumed" if number == 0 else None
        axes.axvline(step, color=INK, linewidth=1, linestyle=(0, (2, 3)), alpha=0.7, label=label)
