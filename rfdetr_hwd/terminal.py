"""Printing, to a terminal or a pipe that may be gone: that costs the lines, not the run."""

import os
import sys

from rfdetr_hwd.errors import printable


def say(text: str) -> None:
    """Print a line, at once; see `printable`."""
    try:
        print(printable(text), flush=True)
    except OSError:
        silence()


def silence() -> None:
    """Send nowhere what is still printed: nobody is there to read it, and the interpreter would end with an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
    os.close(nowhere)
