"""Options that several verbs of `rfdetr-hwd data` share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rfdetr_hwd.data import formats

Source = Annotated[Path, typer.Argument(help="Directory of the dataset.")]
NewDirectory = Annotated[Path, typer.Option(help="New directory for the dataset.")]
Allow = Annotated[list[str] | None, typer.Option(metavar="KIND", help="Kind of error to accept. May be repeated.")]
DataFormat = Annotated[Literal["auto", formats.Format], typer.Option(help="Format of the dataset.")]
Target = Annotated[formats.Target, typer.Option(help="Format to write.")]
Seed = Annotated[int, typer.Option(help="Random seed.", min=0)]
TrainSplit = Annotated[
    str | None,
    typer.Option(help="The training split: NAME or '{annotations: FILE, images: DIRECTORY}'.", metavar="SPLIT"),
]
ValSplit = Annotated[str | None, typer.Option(help="The validation split, in the same form.", metavar="SPLIT")]
TestSplit = Annotated[str | None, typer.Option(help="The test split, in the same form.", metavar="SPLIT")]
Exif = Annotated[
    formats.Exif,
    typer.Option(help="Apply EXIF orientations: to all images (apply), to none (ignore), or as annotated (auto)."),
]
