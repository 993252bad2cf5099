"""What the commands print."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from rfdetr_hwd.errors import printable
from rfdetr_hwd.terminal import say

_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a small table under a title. The cells are plain text: a class may be called `car [rear]`."""
    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    say(title)
    (Console() if sys.stdout.isatty() else Console(width=_WIDTH)).print(table)


def watch(what: str, total: int, steps: Iterator[Any]) -> Iterator[Any]:
    """Return what is done step by step, and show its progress on a terminal."""
    console = Console(stderr=True)
    silent = not console.is_terminal
    yield from track(steps, what, total, console=console, transient=True, disable=silent)


def print_figures(title: str, figures: dict[str, float]) -> None:
    """Print COCO's figures, four digits each, and the AP of each class."""
    from rfdetr_hwd.metrics.coco import COCO_FIGURES  # late: `doctor` prints where torch is missing

    extra = [name for name in figures if name.startswith("AP@")]
    names = [*COCO_FIGURES, *extra]
    print_table(title, ("figure", "value"), [(name, _figure(figures[name])) for name in names])
    classes = [(name.removeprefix("AP/"), _figure(value)) for name, value in figures.items() if name.startswith("AP/")]
    print_table("AP of each class", ("class", "AP"), classes)


def _figure(value: float) -> str:
    """Return four digits; COCO's -1 stands for a figure without ground truth."""
    return "no objects" if value < 0 else f"{value:.4f}"
