"""What all plots share: axes, horizontal bars, colours, rendering. The global state of matplotlib is not touched."""

import warnings
from collections.abc import Sequence

import numpy as np
import PIL.Image
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from rfdetr_hwd.report.lettering import font_of

BAR, INK, GRID = "#4a7fb5", "#2b3138", "#dfe3e8"
"""Colours of bars, of text and of grid lines."""
WIDE, NARROW = 6.6, 5.6
"""Widths of a figure in units of 110 pixels. Two narrow ones stand side by side on a page."""


def render(figure: Figure) -> PIL.Image.Image:
    """Return a figure as an RGB image."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return PIL.Image.fromarray(pixels[..., :3])


def draw_axes(
    title: str, xlabel: str, ylabel: str, height: float = 3.6, width: float = WIDE, is_whole: bool = True
) -> tuple[Figure, Axes]:
    """Return a figure with empty axes in the style of all plots.

    Args:
        title: Text above the axes.
        xlabel: Text below them.
        ylabel: Text on their left.
        height: Of the figure, in units of 110 pixels.
        width: Of the figure, in units of 110 pixels.
        is_whole: Mark whole numbers alone on the y axis.
    """
    figure = Figure(figsize=(width, height), dpi=110, layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.12))
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", size=11.5, weight="bold", color=INK, pad=10)
    axes.set_xlabel(xlabel, color=INK, size=9.5)
    axes.set_ylabel(ylabel, color=INK, size=9.5)
    axes.tick_params(labelsize=9, colors=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=is_whole))
    return figure, axes


def draw_bars(
    axes: Axes,
    names: Sequence[str],
    values: NDArray[np.generic],
    texts: Sequence[str],
    colours: Sequence[str],
) -> None:
    """Draw a horizontal bar per name from the top, with a text at its end.

    Args:
        axes: From `draw_axes`.
        names: Names that can be drawn.
        values: Lengths of the bars, at least 0.
        texts: A text for each.
        colours: A colour for each.
    """
    rows = np.arange(len(names))

    # Draw the bars, with a font for each name that can write it
    axes.barh(rows, values, height=0.72, color=colours)
    axes.set_yticks(rows, names, parse_math=False)
    set_fonts(axes.get_yticklabels(), names)

    # Leave room for the texts
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False)
    for row, (value, text) in enumerate(zip(values.tolist(), texts, strict=True)):
        axes.text(value, row, f"  {text}", va="center", size=9, color=INK)


def set_fonts(labels: Sequence[Text], names: Sequence[str]) -> None:
    """Give each label a font that can write its name."""
    for label, name in zip(labels, names, strict=True):
        label.set_fontproperties(FontProperties(fname=font_of(name), size=9))


def draw_legend(axes: Axes, is_below: bool = False) -> None:
    """Draw a legend, in the axes or below them, without mathematics, each name in a font that can write it."""
    if is_below and isinstance(axes.figure, Figure):
        legend = axes.figure.legend(fontsize=9, frameon=False, loc="outside lower center", ncols=2)
    else:
        legend = axes.legend(fontsize=9, edgecolor="none", framealpha=0.85)
    for text in legend.get_texts():
        text.set_parse_math(False)
    set_fonts(legend.get_texts(), [text.get_text() for text in legend.get_texts()])
