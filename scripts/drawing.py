"""Shared by the pictures of the documentation: colours, lettering, boxes and arrows."""

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from pages import DOCS

matplotlib.use("Agg")

INK, MUTED, LINE, PAPER = "#1f2933", "#66727f", "#b8c1cc", "#ffffff"
BLUE, PALE_BLUE = "#2f5d8a", "#e6eef6"
ORANGE, PALE_ORANGE = "#c8642b", "#fbeadf"
PALE = "#f4f6f8"

matplotlib.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "text.color": INK,
        "axes.edgecolor": LINE,
        "axes.labelcolor": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "figure.facecolor": PAPER,
    }
)


def draw_box(
    axes: Axes,
    left: float,
    bottom: float,
    width: float,
    height: float,
    title: str,
    text: str = "",
    fill: str = PALE,
    edge: str = LINE,
    size: float = 10,
) -> None:
    """Draw a rounded box with a title and, beneath it, smaller text; in the units of the axes."""
    axes.add_patch(
        FancyBboxPatch(
            (left, bottom),
            width,
            height,
            "round,pad=0,rounding_size=0.08",
            facecolor=fill,
            edgecolor=edge,
            linewidth=1.2,
        )
    )
    middle = left + width / 2
    if not text:
        axes.text(middle, bottom + height / 2, title, ha="center", va="center_baseline", fontsize=size)
        return
    axes.text(middle, bottom + 0.66 * height, title, ha="center", va="center", fontsize=size, weight="bold")
    axes.text(
        middle, bottom + 0.3 * height, text, ha="center", va="center", fontsize=size - 2, color=MUTED, linespacing=1.35
    )


def draw_arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = MUTED,
    bend: float = 0.0,
    width: float = 1.3,
) -> None:
    """Draw an arrow from one point to another; `bend` curves it."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            linewidth=width,
            color=colour,
            connectionstyle=f"arc3,rad={bend}",
            shrinkA=0,
            shrinkB=0,
        )
    )


def save(figure: Figure, name: str, description: str | None = None) -> None:
    """Write a figure into docs/, with a description in the file and without the version of the drawing library."""
    path = DOCS / name
    figure.savefig(path, dpi=150, metadata={"Software": None, "Description": description})
    print(path)
