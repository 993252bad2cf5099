"""Options that several verbs share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Configuration overrides, such as train.epochs=12.")
]
WeightsPath = Annotated[Path, typer.Option(help="Run directory (its best checkpoint) or checkpoint directory.")]
WeightsKind = Annotated[
    Literal["auto", "ema", "raw"],
    typer.Option(help="Weights to use: ema, raw (non-EMA), or auto for the better validation AP."),
]
CheckpointPath = Annotated[Path, typer.Argument(help="Run directory (all its checkpoints) or checkpoint directory.")]
