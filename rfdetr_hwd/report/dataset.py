"""Plot statistics of a dataset: its labels, object sizes and positions, as matplotlib figures.

The global state of matplotlib is neither read nor changed. The counts come from `rfdetr_hwd.report.objects`.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rfdetr_hwd.report.lettering import drawable_names, plain
from rfdetr_hwd.report.objects import (
    ASPECT_LIMIT,
    ASPECT_STEPS,
    COCO_SIDES,
    Objects,
    count_aspect_ratios,
    count_per_image,
    count_positions,
    count_sizes,
    side_edges,
)
from rfdetr_hwd.report.plots import BAR, INK, draw_axes, draw_bars
from rfdetr_hwd.report.samples import PALETTE

_MAX_BARS = 40


def plot_labels(objects: Objects) -> Figure:
    """Plot the objects of each class, at most 40 classes, by descending count."""
    counts = objects.per_class
    order = np.argsort(-counts, kind="stable")[:_MAX_BARS]
    left = f" (the {_MAX_BARS} most frequent of {len(counts)})" if len(counts) > _MAX_BARS else ""
    drawn = drawable_names(objects.class_names)
    names = [plain(drawn[label], 28) for label in order]
    figure, axes = draw_axes(f"Objects of each class{left}", "objects", "", height=1.3 + 0.26 * len(order))
    _draw_counts(axes, names, counts[order], len(objects), [PALETTE[label % len(PALETTE)] for label in order])
    return figure


def plot_sides(objects: Objects) -> Figure:
    """Plot the sizes of the objects in pixels, with COCO's boundaries."""
    figure, axes = draw_axes("Object sizes on disk", "square root of box area, pixels", "objects")
    edges = _draw_sides(axes, objects.sides)
    bounds = (edges[0], *COCO_SIDES, edges[-1])
    for name, low, high, number in zip(
        ("small", "medium", "large"), bounds[:-1], bounds[1:], count_sizes(objects.sides), strict=True
    ):
        text = f"{name}\n{number:,} ({number / max(1, len(objects)):.0%})"
        place = float(np.sqrt(low * high))
        axes.text(place, 0.98, text, transform=axes.get_xaxis_transform(), ha="center", va="top", size=9, color=INK)
    for side in COCO_SIDES:
        axes.axvline(side, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    return figure


def plot_input_sides(sides: NDArray[np.float64]) -> Figure:
    """Plot the sizes of the objects in pixels of the model's input; see `Objects.input_sides`."""
    figure, axes = draw_axes("Object sizes at the model's input", "square root of box area, pixels", "objects")
    _draw_sides(axes, sides)
    return figure


def plot_relative_sizes(objects: Objects) -> Figure:
    """Plot the sizes of the objects in percent of the image."""
    edges = np.arange(0.0, 101, 4)
    label = "square root of box area / image area, percent"
    figure, axes = draw_axes("Object sizes relative to the image", label, "objects")
    axes.stairs(np.histogram(objects.relative_sizes, edges)[0], edges, fill=True, color=BAR)
    axes.set_xlim(0, 100)
    return figure


def plot_positions(objects: Objects) -> Figure:
    """Plot where the centres of the objects are, as a map."""
    figure, axes = draw_axes(
        "Centres of the objects", "x, percent of the width", "y, percent of the height", height=5.2
    )
    axes.grid(visible=False)
    image = axes.imshow(count_positions(objects.centres), cmap="viridis", vmin=0, extent=(0, 100, 100, 0))
    bar = figure.colorbar(image, ax=axes, shrink=0.85, ticks=MaxNLocator(6, integer=True))
    bar.set_label("objects in a cell of 5 % x 5 %", color=INK, size=9)
    bar.ax.tick_params(labelsize=9, colors=INK)
    return figure


def plot_per_image(objects: Objects) -> Figure:
    """Plot how many objects the images have."""
    edges, counts = count_per_image(objects.per_image)
    figure, axes = draw_axes("Objects in an image", "objects", "images")
    axes.bar((edges[1:] + edges[:-1]) / 2, counts, width=0.9 * np.diff(edges), color=BAR)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    return figure


def plot_aspect_ratios(objects: Objects) -> Figure:
    """Plot the aspect ratios of the objects on a logarithmic scale. The outer bars are open."""
    edges, counts = count_aspect_ratios(objects.aspect_ratios)
    figure, axes = draw_axes("Aspect ratios of the objects", "box width : height (outer bars: and beyond)", "objects")
    axes.bar((edges[1:] + edges[:-1]) / 2, counts, width=0.9 / ASPECT_STEPS, color=BAR)
    powers = range(-ASPECT_LIMIT, ASPECT_LIMIT + 1)
    axes.set_xticks(list(powers), [f"{2**power}:1" if power > 0 else f"1:{2**-power}" for power in powers])
    return figure


def plot_image_sizes(objects: Objects) -> Figure:
    """Plot the sizes of the images: as bars if there are few, or else as points whose area is the number of images."""
    sizes, counts = np.unique(objects.image_sizes, axis=0, return_counts=True)
    if len(sizes) <= 10:
        order = np.argsort(-counts, kind="stable")
        figure, axes = draw_axes("Image sizes, width x height in pixels", "images", "", height=1.3 + 0.26 * len(sizes))
        _draw_counts(
            axes, [f"{w} x {h}" for h, w in sizes[order]], counts[order], int(counts.sum()), [BAR] * len(sizes)
        )
        return figure
    figure, axes = draw_axes(f"Image sizes ({len(sizes):,} different)", "width, pixels", "height, pixels", height=5.2)

    # Draw points of many
    smallest, opacity = (14, 0.6) if len(sizes) <= 300 else (4, 0.25)
    axes.scatter(
        sizes[:, 1], sizes[:, 0], s=smallest + 600 * counts / counts.sum(), alpha=opacity, color=BAR, linewidths=0
    )
    limit = 1.06 * sizes.max()
    axes.plot([0, limit], [0, limit], color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
    return figure


def _draw_sides(axes: Axes, sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw a histogram of object sizes on a logarithmic scale, with room for text on top, and return its edges."""
    edges = side_edges(sides)
    counts, _ = np.histogram(sides, edges)
    axes.set_xscale("log")
    axes.stairs(counts, edges, fill=True, color=BAR)
    axes.set_ylim(0, 1.22 * max(1, int(counts.max())))
    ticks = [tick for tick in (1, 2, 4, 8, 16, 32, 64, 96, 192, 384, 768, 1536, 3072) if edges[0] <= tick <= edges[-1]]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    return edges


def _draw_counts(
    axes: Axes, names: Sequence[str], counts: NDArray[np.int64], total: int, colours: Sequence[str]
) -> None:
    """Draw a bar per name, with its count and its fraction of the total."""
    texts = [f"{count:,} ({count / max(1, total):.1%})" for count in counts.tolist()]
    draw_bars(axes, names, counts, texts, colours)
    axes.set_xlim(0, 1.28 * max(1, counts.max(initial=0)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
