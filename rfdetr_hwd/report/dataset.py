"""Plot statistics of a dataset: its labels, object sizes and positions, as matplotlib figures.

The global state of matplotlib is neither read nor changed. The counts come from `rfdetr_hwd.report.objects`.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rfdetr_hwd.report.lettering import drawable_names, font_of, plain
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
from rfdetr_hwd.report.samples import PALETTE

_BAR, _INK, _GRID = "#4a7fb5", "#2b3138", "#dfe3e8"
_MAX_BARS = 40


def plot_labels(objects: Objects) -> Figure:
    """Plot the objects of each class, at most 40 classes, by descending count."""
    counts = objects.per_class
    order = np.argsort(-counts, kind="stable")[:_MAX_BARS]
    left = f" (the {_MAX_BARS} most frequent of {len(counts)})" if len(counts) > _MAX_BARS else ""
    drawn = drawable_names(objects.class_names)
    names = [plain(drawn[label], 28) for label in order]
    figure, axes = _axes(f"Objects of each class{left}", "objects", "", height=1.3 + 0.26 * len(order))
    _horizontal_bars(axes, names, counts[order], len(objects), [PALETTE[label % len(PALETTE)] for label in order])
    return figure


def plot_sides(objects: Objects) -> Figure:
    """Plot the sizes of the objects in pixels, with COCO's boundaries."""
    figure, axes = _axes("Object sizes on disk", "square root of box area, pixels", "objects")
    edges = _draw_sides(axes, objects.sides)
    bounds = (edges[0], *COCO_SIDES, edges[-1])
    for name, low, high, number in zip(
        ("small", "medium", "large"), bounds[:-1], bounds[1:], count_sizes(objects.sides), strict=True
    ):
        text = f"{name}\n{number:,} ({number / max(1, len(objects)):.0%})"
        place = float(np.sqrt(low * high))
        axes.text(place, 0.98, text, transform=axes.get_xaxis_transform(), ha="center", va="top", size=9, color=_INK)
    for side in COCO_SIDES:
        axes.axvline(side, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    return figure


def plot_input_sides(sides: NDArray[np.float64]) -> Figure:
    """Plot the sizes of the objects in pixels of the model's input; see `Objects.input_sides`."""
    figure, axes = _axes("Object sizes at the model's input", "square root of box area, pixels", "objects")
    _draw_sides(axes, sides)
    return figure


def plot_relative_sizes(objects: Objects) -> Figure:
    """Plot the sizes of the objects in percent of the image."""
    edges = np.arange(0.0, 101, 4)
    label = "square root of box area / image area, percent"
    figure, axes = _axes("Object sizes relative to the image", label, "objects")
    axes.stairs(np.histogram(objects.relative_sizes, edges)[0], edges, fill=True, color=_BAR)
    axes.set_xlim(0, 100)
    return figure


def plot_positions(objects: Objects) -> Figure:
    """Plot where the centres of the objects are, as a map."""
    figure, axes = _axes("Centres of the objects", "x, percent of the width", "y, percent of the height", height=5.2)
    axes.grid(visible=False)
    image = axes.imshow(count_positions(objects.centres), cmap="viridis", vmin=0, extent=(0, 100, 100, 0))
    bar = figure.colorbar(image, ax=axes, shrink=0.85, ticks=MaxNLocator(6, integer=True))
    bar.set_label("objects in a cell of 5 % x 5 %", color=_INK, size=9)
    bar.ax.tick_params(labelsize=9, colors=_INK)
    return figure


def plot_per_image(objects: Objects) -> Figure:
    """Plot how many objects the images have."""
    edges, counts = count_per_image(objects.per_image)
    figure, axes = _axes("Objects in an image", "objects", "images")
    axes.bar((edges[1:] + edges[:-1]) / 2, counts, width=0.9 * np.diff(edges), color=_BAR)
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    return figure


def plot_aspect_ratios(objects: Objects) -> Figure:
    """Plot the aspect ratios of the objects on a logarithmic scale. The outer bars are open."""
    edges, counts = count_aspect_ratios(objects.aspect_ratios)
    figure, axes = _axes("Aspect ratios of the objects", "box width : height (outer bars: and beyond)", "objects")
    axes.bar((edges[1:] + edges[:-1]) / 2, counts, width=0.9 / ASPECT_STEPS, color=_BAR)
    powers = range(-ASPECT_LIMIT, ASPECT_LIMIT + 1)
    axes.set_xticks(list(powers), [f"{2**power}:1" if power > 0 else f"1:{2**-power}" for power in powers])
    return figure


def plot_image_sizes(objects: Objects) -> Figure:
    """Plot the sizes of the images: as bars if there are few, or else as points whose area is the number of images."""
    sizes, counts = np.unique(objects.image_sizes, axis=0, return_counts=True)
    if len(sizes) <= 10:
        order = np.argsort(-counts, kind="stable")
        figure, axes = _axes("Image sizes, width x height in pixels", "images", "", height=1.3 + 0.26 * len(sizes))
        _horizontal_bars(
            axes, [f"{w} x {h}" for h, w in sizes[order]], counts[order], int(counts.sum()), [_BAR] * len(sizes)
        )
        return figure
    figure, axes = _axes(f"Image sizes ({len(sizes):,} different)", "width, pixels", "height, pixels", height=5.2)

    # Draw points of many
    smallest, opacity = (14, 0.6) if len(sizes) <= 300 else (4, 0.25)
    axes.scatter(
        sizes[:, 1], sizes[:, 0], s=smallest + 600 * counts / counts.sum(), alpha=opacity, color=_BAR, linewidths=0
    )
    limit = 1.06 * sizes.max()
    axes.plot([0, limit], [0, limit], color=_INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
    return figure


def render(figure: Figure) -> PIL.Image.Image:
    """Return a figure as an RGB image."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return PIL.Image.fromarray(pixels[..., :3])


def _axes(title: str, xlabel: str, ylabel: str, height: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.6, height), dpi=110, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.12))
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", size=11.5, weight="bold", color=_INK, pad=10)
    axes.set_xlabel(xlabel, color=_INK, size=9.5)
    axes.set_ylabel(ylabel, color=_INK, size=9.5)
    axes.tick_params(labelsize=9, colors=_INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure, axes


def _draw_sides(axes: Axes, sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw a histogram of object sizes on a logarithmic scale, with room for text on top, and return its edges."""
    edges = side_edges(sides)
    counts, _ = np.histogram(sides, edges)
    axes.set_xscale("log")
    axes.stairs(counts, edges, fill=True, color=_BAR)
    axes.set_ylim(0, 1.22 * max(1, int(counts.max())))
    ticks = [tick for tick in (1, 2, 4, 8, 16, 32, 64, 96, 192, 384, 768, 1536, 3072) if edges[0] <= tick <= edges[-1]]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(float(edges[0]), float(edges[-1]))
    return edges


def _horizontal_bars(
    axes: Axes, names: Sequence[str], counts: NDArray[np.int64], total: int, colours: Sequence[str]
) -> None:
    """Draw a bar per name from the top, with its count and its fraction of the total."""
    rows = np.arange(len(names))

    # Draw the bars, with a font for each name that can write it
    axes.barh(rows, counts, height=0.72, color=colours)
    axes.set_yticks(rows, names, parse_math=False)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontproperties(FontProperties(fname=font_of(name), size=9))

    # Leave room for the counts
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.28 * max(1, counts.max(initial=0)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(visible=False)
    for row, count in enumerate(counts.tolist()):
        fraction = count / max(1, total)
        axes.text(count, row, f"  {count:,} ({fraction:.1%})", va="center", size=9, color=_INK)
