"""Printing, to a terminal or a pipe that may be gone: that costs the lines, not the run."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_FILE_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""


def printable(text: str) -> str:
    """Escape what could command a terminal or cannot be written: names and messages may come from anyone's files."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Print a line, at once; see `printable`."""
    try:
        print(printable(text), flush=True)
    except OSError:
        silence()


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a small table under a title. The cells are plain text: a class may be called `car [rear]`."""
    from rich.table import Table  # late: `--help` does without
    from rich.text import Text

    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    say(title)
    open_console(sys.stdout).print(table)


def watch(what: str, total: int, steps: Iterator[Any]) -> Iterator[Any]:
    """Return what is done step by step, and show its progress on a terminal."""
    from rich.progress import track

    console = open_console(sys.stderr)
    yield from track(steps, what, total, console=console, transient=True, disable=not console.is_interactive)


def digits(value: float | None) -> str:
    """Return a metric with four digits; a dash where there is nothing to measure it by."""
    return "-" if value is None else f"{value:.4f}"


def open_console(stream: TextIO) -> "Console":
    """Return rich's console of a stream; every use of rich comes through here.

    Only a real terminal gets colours, live lines and its own width. By itself rich would also take FORCE_COLOR,
    TTY_COMPATIBLE and TTY_INTERACTIVE for a terminal, and COLUMNS for its width: variables of whoever started the
    command, which fill a log file with progress bars. On a terminal they count as ever, like NO_COLOR and TERM=dumb.
    """
    from rich.console import Console  # late: `--help` does without

    if is_terminal(stream):
        return Console(file=stream)
    return Console(file=stream, force_terminal=False, force_interactive=False, force_jupyter=False, width=_FILE_WIDTH)


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal; one that is closed is none."""
    try:
        return stream.isatty()
    except ValueError:
        return False


def silence() -> None:
    """Send nowhere what is still printed: nobody is there to read it, and the interpreter would end with an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.close(nowhere)
