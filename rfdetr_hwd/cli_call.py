"""What every verb of the command line shares: it is loaded when it is called, and its errors become exit statuses."""

import importlib
import logging
import shlex
import sys
import warnings
from typing import Annotated, Any

import typer

from rfdetr_hwd.errors import Interrupted, UserError, printable

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides: train.epochs=12")]


def call_verb(module: str, function: str = "run", /, **arguments: Any) -> None:
    """Load a verb and run it; an error meant for the user becomes one message and an exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("rfdetr_hwd").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", message="OpenCV .* is not installed", category=UserWarning)  # supervision's
    try:
        getattr(importlib.import_module(f"rfdetr_hwd.commands.{module}"), function)(**arguments)
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        raise typer.Exit(error.exit_code) from None
    except Interrupted as interruption:
        if interruption.advice is not None:
            again = "stopped. To start again:\n" + shlex.join(["rfdetr-hwd", *sys.argv[1:]])
            print(interruption.advice or again, flush=True)
        raise typer.Exit(int(str(interruption.code))) from None
