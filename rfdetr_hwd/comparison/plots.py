"""Plot a comparison: differences with their intervals, values by seed, AP by object size, error types."""

import numpy as np
from matplotlib.figure import Figure

from rfdetr_hwd.comparison.results import Comparison
from rfdetr_hwd.report.lettering import drawable_names, plain
from rfdetr_hwd.report.plots import GRID, INK, draw_axes, draw_legend, set_fonts

_COLOURS = {"better": "#2f8f5b", "worse": "#c8443c", "equivalent": "#4a7fb5", "undecided": "#8b939c"}
"""Colour of each verdict."""
_LINES = ("#d6452f", "#2a78c8", "#2f9461", "#9b59c4", "#c0792a", "#16909c")
"""Colours of arms and seeds, of a brightness that is legible on light and on dark paper."""
_WIDTH = 4.8
"""Width of a plot in units of 110 pixels: its text is still legible on a phone."""


def plot_differences(comparison: Comparison) -> Figure:
    """Plot the difference of each arm and metric to the baseline, with its interval and the margin."""
    rows = [
        (f"{name}, {metric}", verdict)
        for name, arm in comparison.verdicts()
        for metric, verdict in arm.verdicts.items()
        if verdict is not None
    ]
    names = [plain(name, 26) for name in drawable_names([name for name, _ in rows])]
    title = f"Differences to {plain(drawable_names([comparison.baseline])[0], 20)}"
    figure, axes = draw_axes(title, "difference, 95 % interval", "", height=1.5 + 0.3 * len(rows), width=_WIDTH)
    axes.grid(visible=False)
    axes.locator_params(axis="x", nbins=5)
    axes.axvline(0, color=INK, linewidth=1)
    if rows:
        margin = rows[0][1].margin
        label = f"equivalence margin, {margin:g}"
        axes.axvspan(-margin, margin, color="#4a7fb5", alpha=0.25, linewidth=0, label=label)
    for decision in [name for name in _COLOURS if name in {verdict.verdict for _, verdict in rows}]:
        axes.plot([], [], "o-", color=_COLOURS[decision], label=decision)
    for row, (_, verdict) in enumerate(rows):
        colour = _COLOURS[verdict.verdict]
        axes.plot([verdict.low, verdict.high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
        axes.plot(verdict.difference, row, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    set_fonts(axes.get_yticklabels(), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    draw_legend(axes, is_below=True)
    return figure


def plot_seeds(comparison: Comparison) -> Figure:
    """Plot the first metric of every run, a column for each arm. A line joins the runs of a seed."""
    metric = comparison.metrics[0]
    arms = list(comparison.arms)
    names = [plain(name, 20) for name in drawable_names(arms)]
    figure, axes = draw_axes(f"{metric} of every run", "", metric, width=_WIDTH, is_whole=False)
    by_arm = [comparison.arms[arm].values[metric] for arm in arms]
    for number, seed in enumerate(by_arm[0]):
        heights = [np.nan if (value := values[seed]) is None else value for values in by_arm]
        colour = _LINES[number % len(_LINES)]
        axes.plot(range(len(arms)), heights, "o-", color=colour, linewidth=1, markersize=5, label=f"seed {seed}")
    axes.set_xticks(range(len(arms)), names, parse_math=False)
    set_fonts(axes.get_xticklabels(), names)
    if sum(map(len, names)) > 36:  # they would overlap
        axes.tick_params(axis="x", labelrotation=25)
    axes.set_xlim(-0.4, len(arms) - 0.6)
    draw_legend(axes, is_below=True)
    return figure


def plot_sizes(comparison: Comparison) -> Figure:
    """Plot AP by deciles of the object size in model pixels, a line for each arm."""
    title = "AP by object size at the model's input"
    figure, axes = draw_axes(title, "square root of box area, model pixels", "AP", width=_WIDTH, is_whole=False)
    for number, (name, arm) in enumerate(comparison.arms.items()):
        centres = [np.sqrt(max(1e-9, _number(row["low"]) * _number(row["high"]))) for row in arm.by_size]
        colour, label = _LINES[number % len(_LINES)], plain(drawable_names([name])[0], 24)
        axes.plot(centres, [_number(row["AP"]) for row in arm.by_size], "o-", color=colour, linewidth=1.4, label=label)
    axes.set_xscale("log")
    ticks = _size_ticks(comparison)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    draw_legend(axes, is_below=True)
    return figure


def plot_errors(comparison: Comparison) -> Figure:
    """Plot the AP50 that fixing each type of error would gain, a bar for each arm."""
    kinds = list(next(iter(comparison.arms.values())).error_costs)
    width = 0.8 / len(comparison.arms)
    figure, axes = draw_axes("What each type of error costs", "AP50 gained by fixing it", "", width=_WIDTH)
    for number, (name, arm) in enumerate(comparison.arms.items()):
        offsets = np.arange(len(kinds)) + (number - (len(comparison.arms) - 1) / 2) * width
        colour, label = _LINES[number % len(_LINES)], plain(drawable_names([name])[0], 24)
        axes.barh(offsets, [max(0.0, arm.error_costs[kind]) for kind in kinds], width, color=colour, label=label)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.grid(visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    draw_legend(axes, is_below=True)
    return figure


def _number(value: float | None) -> float:
    return 0.0 if value is None else value


def _size_ticks(comparison: Comparison) -> list[int]:
    """Return the powers of two within the sizes of the objects."""
    bins = [row for arm in comparison.arms.values() for row in arm.by_size]
    low, high = min(_number(row["low"]) for row in bins), max(_number(row["high"]) for row in bins)
    return [2**power for power in range(12) if low <= 2**power <= high]
