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
Shifts = Annotated[
    int,
    typer.Option(help="Also measure the input shifted by 1 to this many pixels, to the right and down.", min=0, max=32),
]
Corruptions = Annotated[bool, typer.Option("--corruptions", help="Also measure corrupted images.")]
Severities = Annotated[
    str | None, typer.Option(metavar="N,N...", help="Severities of the corruptions, from 1 to 5.", show_default="all")
]
TileSize = Annotated[
    int | None,
    typer.Option(
        "--tiles", help="Detect in tiles of this many pixels, for small objects.", show_default="whole images"
    ),
]
TileOverlap = Annotated[float, typer.Option("--overlap", help="Overlap of tiles, as a fraction of their size.")]
