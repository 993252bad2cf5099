"""What every verb of the command line shares: it is loaded when it is called, and its errors become exit statuses."""

import importlib
import logging
import os
import shlex
import sys
import warnings
from typing import Annotated, Any

import typer

from rfdetr_hwd.errors import Interrupted, UserError, printable
from rfdetr_hwd.launch import launcher
from rfdetr_hwd.terminal import say

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides: train.epochs=12")]


def call_verb(module: str, function: str = "run", /, **arguments: Any) -> None:
    """Load a verb and run it; an error meant for the user becomes one message and an exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("rfdetr_hwd").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", message="OpenCV .* is not installed", category=UserWarning)  # supervision's
    try:
        getattr(importlib.import_module(f"rfdetr_hwd.commands.{module}"), function)(**arguments)
    except UserError as error:
        message = "\n".join([str(error), *getattr(error, "__notes__", [])])
        print(f"error: {printable(message)}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    except Interrupted as interruption:
        if os.environ.get("RANK", "0") == "0":
            say(interruption.advice or f"stopped. To start again:\n{launcher()} {shlex.join(sys.argv[1:])}")
        raise typer.Exit(interruption.status) from None
