"""Plot what an evaluation found: precision, thresholds, errors, confusion, calibration, sizes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rfdetr_hwd.analysis.calibration import Calibration
from rfdetr_hwd.analysis.curves import precision_at_recall
from rfdetr_hwd.analysis.sizes import SizeBin
from rfdetr_hwd.evaluation.matching import Matches
from rfdetr_hwd.evaluation.thresholds import BestThreshold, ThresholdCurve
from rfdetr_hwd.report.lettering import drawable_names, plain
from rfdetr_hwd.report.plots import BAR, INK, NARROW, draw_axes, draw_bars, draw_legend, set_fonts
from rfdetr_hwd.report.samples import PALETTE

KIND_COLOURS = {
    "missed": "#d62a9d",
    "wrong class": "#e07b00",
    "badly placed": "#1f78d1",
    "both": "#7b4fd3",
    "duplicate": "#0f9d8f",
    "background": "#d9342b",
}
"""Colour of each kind of error, the same in plots and pictures."""

_MAX_BARS, _MAX_CELLS, _MAX_CURVES = 40, 20, 10
_RED, _GREEN = "#c8443c", "#2f8f5b"
_RECALLS = np.linspace(0, 1, 101)


def plot_costs(costs: dict[str, float]) -> Figure:
    """Plot the AP50 that fixing each type of error alone would add, the largest first."""
    kinds = sorted(costs, key=lambda kind: -costs[kind])
    values = np.array([max(0.0, costs[kind]) for kind in kinds])
    figure, axes = draw_axes("What fixing each type of error would add", "AP50", "", height=3.0, width=NARROW)
    draw_bars(axes, kinds, values, [f"{value:.3f}" for value in values], [KIND_COLOURS[kind] for kind in kinds])
    axes.set_xlim(0, 1.2 * max(0.01, float(values.max())))
    return figure


def plot_precision_recall(matches: Matches) -> Figure:
    """Plot precision along recall: the mean over classes at three IoU thresholds, and each class if they are few."""
    figure, axes = _unit_axes("Precision and recall", "recall", "precision", height=4.8)
    by_class = precision_at_recall(matches)
    names = drawable_names(matches.class_names)
    known = np.flatnonzero(~np.isnan(by_class).any(axis=1))
    if 1 < len(known) <= _MAX_CURVES:
        for row in known:
            colour, name = PALETTE[row % len(PALETTE)], plain(names[row], 24)
            axes.plot(_RECALLS, by_class[row], color=colour, linewidth=1.2, alpha=0.9, label=name)
    for iou, style in ((0.5, "-"), (0.75, "--"), (0.9, ":")):
        mean = precision_at_recall(matches, iou)[known].mean(axis=0)
        axes.plot(_RECALLS, mean, color=INK, linewidth=2, linestyle=style, label=f"all classes, IoU {iou:g}")
    draw_legend(axes, is_below=True)
    return figure


def plot_thresholds(curve: ThresholdCurve, best: BestThreshold | None) -> Figure:
    """Plot precision, recall and F1 along the confidence threshold, with the best one and where F1 is flat."""
    figure, axes = _unit_axes("Precision, recall and F1 at each confidence threshold", "confidence threshold", "")
    thresholds = np.linspace(0, 1, 401)
    for name, values, colour in zip(
        ("precision", "recall", "F1"), curve.at(thresholds), (BAR, _GREEN, INK), strict=True
    ):
        axes.plot(thresholds, values, color=colour, linewidth=2.4 if name == "F1" else 1.5, label=name)
    if best is not None:
        axes.axvspan(best.flat_low, best.flat_high, color=INK, alpha=0.09, linewidth=0)
        label = f"best: {best.threshold:.2f}, F1 {best.f1:.2f}"
        axes.axvline(best.threshold, color=_RED, linewidth=1.4, linestyle=(0, (4, 3)), label=label)
    draw_legend(axes)
    return figure


def plot_class_ap(matches: Matches) -> Figure:
    """Plot AP and AP50 of each class, at most the 40 with the lowest AP, the lowest first."""
    ap, ap50 = (precision_at_recall(matches, iou).mean(axis=1) for iou in (None, 0.5))
    known = np.flatnonzero(~np.isnan(ap))
    order = known[np.argsort(ap[known], kind="stable")][:_MAX_BARS]
    left = f" (the {_MAX_BARS} lowest of {len(known)})" if len(known) > _MAX_BARS else ""
    names = [plain(name, 28) for name in np.array(drawable_names(matches.class_names), object)[order]]
    figure, axes = draw_axes(
        f"AP of each class{left}", "AP (dark), AP50 (light)", "", height=1.3 + 0.26 * len(order), width=NARROW
    )
    texts = [f"{low:.2f}, {high:.2f}" for low, high in zip(ap[order], ap50[order], strict=True)]
    draw_bars(axes, names, ap50[order], texts, ["#b9cfe4"] * len(order))
    axes.barh(np.arange(len(order)), ap[order], height=0.72, color=BAR)
    axes.set_xlim(0, 1.18)
    axes.set_xticks(np.linspace(0, 1, 6))
    return figure


def plot_confusion(confusion: NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Plot the confusion matrix in percent of each row, of at most the 20 classes with the most confusions.

    Args:
        confusion: Shape (C + 1, C + 1), from `confusion_matrix`.
        class_names: C names.
    """
    # Choose the classes, and add the rest of the matrix
    num_classes = len(class_names)
    wrong = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * np.diag(confusion)
    chosen = np.sort(np.argsort(-wrong[:num_classes], kind="stable")[:_MAX_CELLS])
    rows = np.append(chosen, num_classes)
    left = f" (the {_MAX_CELLS} most confused of {num_classes} classes)" if num_classes > _MAX_CELLS else ""
    counts = confusion[np.ix_(rows, rows)]
    percent = 100 * counts / np.maximum(1, confusion.sum(axis=1)[rows])[:, None]

    # Draw the cells
    side = 1.9 + 0.42 * len(rows)
    figure, axes = draw_axes(f"Confusion matrix{left}", "detected", "truth", height=side, width=max(NARROW, side + 0.8))
    axes.grid(visible=False)
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    names = [plain(name, 18) for name in np.array([*drawable_names(class_names), "background"], object)[rows]]
    places = np.arange(len(rows))
    axes.set_xticks(places, [*names[:-1], "not found"], rotation=45, ha="right", parse_math=False)
    axes.set_yticks(places, names, parse_math=False)
    set_fonts(axes.get_xticklabels(), [*names[:-1], "not found"])
    set_fonts(axes.get_yticklabels(), names)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if percent[row, column] > 55 else INK
            axes.text(column, row, _short(int(count)), ha="center", va="center", size=8, color=colour)
    return figure


def plot_reliability(calibration: Calibration) -> Figure:
    """Plot the precision of the detections of each range of scores, beside the diagonal of calibrated scores."""
    figure, axes = _unit_axes("Is a score a probability?", "score", "precision at IoU 0.5", height=4.2)
    filled = calibration.count > 0
    middles, width = (calibration.edges[1:] + calibration.edges[:-1]) / 2, calibration.edges[1] - calibration.edges[0]
    axes.bar(middles[filled], calibration.precision[filled], width=0.94 * width, color=BAR, label="detections")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label="calibrated")
    for place, precision, count in zip(
        middles[filled], calibration.precision[filled], calibration.count[filled].tolist(), strict=True
    ):
        axes.text(place, precision + 0.015, _short(count), ha="center", size=8, color=INK)
    axes.set_ylim(0, 1.08)
    draw_legend(axes)
    return figure


def plot_sizes(bins: Sequence[SizeBin], unit: str) -> Figure:
    """Plot recall and AP of each range of object sizes.

    Args:
        bins: At least one.
        unit: What sizes are measured in.
    """
    figure, axes = _unit_axes("Recall and AP by object size", f"square root of box area, {unit}", "")
    places = np.arange(len(bins))
    axes.bar(places - 0.2, [one.recall for one in bins], width=0.38, color="#b9cfe4", label="recall at IoU 0.5")
    axes.bar(places + 0.2, [one.ap for one in bins], width=0.38, color=BAR, label="AP")
    axes.set_xlim(-0.6, len(bins) - 0.4)
    digits = 0 if len({round(one.low) for one in bins}) == len(bins) else 1
    axes.set_xticks(places, [f"{one.low:.{digits}f}\nto\n{one.high:.{digits}f}" for one in bins])
    axes.set_ylim(0, 1.2)
    draw_legend(axes)
    return figure


def _unit_axes(title: str, xlabel: str, ylabel: str, height: float = 3.8) -> tuple[Figure, Axes]:
    """Return axes from 0 to 1."""
    figure, axes = draw_axes(title, xlabel, ylabel, height, NARROW, is_whole=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.set_yticks(np.linspace(0, 1, 6))
    return figure, axes


def _short(count: int) -> str:
    """Return a count in at most four characters."""
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1_000_000:.0f}M"
