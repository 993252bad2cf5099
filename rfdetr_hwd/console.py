"""Print to a terminal or a pipe. If it is closed, the output is lost and the run continues."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_FILE_WIDTH = 140
"""Columns of a table that goes to a file or a pipe."""


def printable(text: str) -> str:
    """Escape control characters and unprintable text: names and messages may come from untrusted files."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def say(text: str) -> None:
    """Print a line and flush it; see `printable`."""
    try:
        print(printable(text), flush=True)
    except OSError:
        silence()


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a small table under a title. The cells have no markup: a class may be called `car [rear]`."""
    from rich.table import Table  # late: `--help` does without
    from rich.text import Text

    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    say(title)
    open_console(sys.stdout).print(table)


def watch(what: str, total: int | None, steps: Iterator[Any]) -> Iterator[Any]:
    """Yield the items of an iterator, with a progress bar and the time left on a terminal.

    Args:
        what: What is done, in front of the bar.
        total: Number of items, if it is known.
        steps: The iterator.
    """
    from rich.progress import Progress

    console = open_console(sys.stderr)
    is_shared = is_terminal(sys.stdout)  # lines for a file must not land on the terminal
    with Progress(
        console=console, transient=True, redirect_stdout=is_shared, disable=not console.is_interactive
    ) as progress:
        yield from progress.track(steps, total, description=what)


def digits(value: float | None, number: int = 4) -> str:
    """Return a metric with so many digits, or a dash if it is undefined."""
    return "-" if value is None else f"{value:.{number}f}"


def open_console(stream: TextIO) -> "Console":
    """Return rich's console of a stream. Every use of rich goes through this function.

    Only a real terminal gets colours, live lines and its own width. By itself rich would also take FORCE_COLOR,
    TTY_COMPATIBLE and TTY_INTERACTIVE for a terminal, and COLUMNS for its width. These environment variables of the
    caller would fill a log file with progress bars. On a terminal they work as usual, like NO_COLOR and TERM=dumb.
    """
    from rich.console import Console  # late: `--help` does without

    if is_terminal(stream):
        return Console(file=stream)
    return Console(file=stream, force_terminal=False, force_interactive=False, force_jupyter=False, width=_FILE_WIDTH)


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal, which a closed stream is not."""
    with suppress(ValueError):
        return stream.isatty()
    return False


def silence() -> None:
    """Discard further output: nobody can read it, and the interpreter would end with an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.close(nowhere)
