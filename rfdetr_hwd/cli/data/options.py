"""Options that several verbs of `rfdetr-hwd data` share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from rfdetr_hwd.data.formats import Format

Source = Annotated[Path, typer.Argument(help="Directory of the dataset.")]
NewDirectory = Annotated[Path, typer.Option(help="New directory of the dataset.")]
Allow = Annotated[list[str] | None, typer.Option(metavar="KIND", help="A kind of error to accept; may be repeated.")]
DataFormat = Annotated[Literal["auto", Format], typer.Option(help="Format of the dataset.")]
Target = Annotated[Literal["coco", "yolo"], typer.Option(help="Format to write.")]
Seed = Annotated[int, typer.Option(help="Random seed.", min=0)]
TrainSplit = Annotated[
    str | None,
    typer.Option(help="The training split: NAME or '{annotations: FILE, images: DIRECTORY}'.", metavar="SPLIT"),
]
ValSplit = Annotated[str | None, typer.Option(help="The validation split, likewise.", metavar="SPLIT")]
TestSplit = Annotated[str | None, typer.Option(help="The test split, likewise.", metavar="SPLIT")]
Exif = Annotated[
    Literal["auto", "apply", "ignore"],
    typer.Option(help="Rotate images upright as EXIF says (apply), or not (ignore); auto decides per image."),
]
