"""`rfdetr-hwd train`: train a new run, or resume one."""

from pathlib import Path
from typing import Annotated

import typer

from rfdetr_hwd.cli.options import Overrides


def train(
    overrides: Overrides = None,
    config: Annotated[Path | None, typer.Option(help="YAML configuration of a new run.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run directory to resume.")] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Accept a change of this key in a resumed run. May be repeated."),
    ] = None,
    auto_resume: Annotated[
        bool, typer.Option("--auto-resume", help="With --config: resume the run in output.dir if there is one.")
    ] = False,
) -> None:
    """Train a new run, or resume one."""
    from rfdetr_hwd.training.run import run

    run(config, resume, overrides or [], accept or [], auto_resume)
