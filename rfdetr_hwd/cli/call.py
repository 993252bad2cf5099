"""What every verb of the command line shares: it is loaded when it is called, and its errors become exit statuses."""

import importlib
import logging
import warnings
from typing import Annotated, Any

import typer

from rfdetr_hwd.errors import Interrupted, UserError
from rfdetr_hwd.runtime.last_words import say_last_words

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides: train.epochs=12")]


def call_verb(module: str, function: str = "run", /, **arguments: Any) -> None:
    """Load a verb and run it; an error meant for the user becomes one message and an exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("rfdetr_hwd").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", message="OpenCV .* is not installed", category=UserWarning)  # supervision's
    try:
        getattr(importlib.import_module(f"rfdetr_hwd.cli.{module}"), function)(**arguments)
    except (UserError, Interrupted) as error:
        raise typer.Exit(say_last_words(error)) from None
