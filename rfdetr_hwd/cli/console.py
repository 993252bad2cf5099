"""What the commands print."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.progress import track
from rich.table import Table
from rich.text import Text

from rfdetr_hwd.console import open_console, say
from rfdetr_hwd.errors import printable


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a small table under a title. The cells are plain text: a class may be called `car [rear]`."""
    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    say(title)
    open_console(sys.stdout).print(table)


def watch(what: str, total: int, steps: Iterator[Any]) -> Iterator[Any]:
    """Return what is done step by step, and show its progress on a terminal."""
    console = open_console(sys.stderr)
    yield from track(steps, what, total, console=console, transient=True, disable=not console.is_interactive)


def print_figures(title: str, figures: Mapping[str, float | None]) -> None:
    """Print COCO's figures, four digits each, and the AP of each class."""
    from rfdetr_hwd.evaluation.coco import COCO_FIGURES  # late: `doctor` prints where torch is missing

    extra = [name for name in figures if name.startswith("AP@")]
    names = [*COCO_FIGURES, *extra]
    print_table(title, ("figure", "value"), [(name, digits(figures[name])) for name in names])
    classes = [(name.removeprefix("AP/"), digits(value)) for name, value in figures.items() if name.startswith("AP/")]
    print_table("AP of each class", ("class", "AP"), classes)


def digits(value: float | None) -> str:
    """Return a figure with four digits; a dash where there is nothing to measure it by."""
    return "-" if value is None else f"{value:.4f}"
