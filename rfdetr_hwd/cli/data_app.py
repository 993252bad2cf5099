"""The command line of `rfdetr-hwd data`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rfdetr_hwd.cli.call import Overrides, call_verb

data_app = typer.Typer(help="Work on datasets.", rich_markup_mode=None, no_args_is_help=True)


class DataFormat(StrEnum):
    """Layouts of a dataset."""

    auto = "auto"
    coco = "coco"
    roboflow = "roboflow"
    yolo = "yolo"
    webdataset = "webdataset"
    voc = "voc"


Source = Annotated[Path, typer.Argument(help="Directory of the dataset.")]
AllowOption = Annotated[list[str] | None, typer.Option(help="A kind of error to accept; may be repeated.")]
FormatOption = Annotated[DataFormat, typer.Option(help="Format of the dataset.")]
TrainOption = Annotated[
    str | None,
    typer.Option(help="The training split: NAME or '{annotations: FILE, images: DIRECTORY}'.", metavar="SPLIT"),
]
ValOption = Annotated[str | None, typer.Option(help="The validation split, likewise.", metavar="SPLIT")]
TestOption = Annotated[str | None, typer.Option(help="The test split, likewise.", metavar="SPLIT")]


ExifOption = Annotated[
    str, typer.Option(help="Turn images upright as EXIF says (apply), or not (ignore); auto decides for each.")
]


@data_app.command("demo")
def data_demo(
    out: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    seed: Annotated[int, typer.Option(help="Seed of the drawing.")] = 0,
) -> None:
    """Write the built-in dataset of coloured shapes."""
    call_verb("data", "run_demo", out=out, seed=seed)


@data_app.command("check")
def data_check(
    root: Source,
    format: FormatOption = DataFormat.auto,
    decode: Annotated[bool, typer.Option(help="Decode every image.")] = True,
    queries: Annotated[int, typer.Option(help="Object queries of the model.")] = 300,
    allow: AllowOption = None,
    json: Annotated[Path | None, typer.Option(help="Also write the report to this file.")] = None,
    train: TrainOption = None,
    val: ValOption = None,
    test: TestOption = None,
    bit_depth: Annotated[str, typer.Option(help="Bits that the values of 16-bit files use: auto, 8 to 16.")] = "auto",
    exif: ExifOption = "auto",
) -> None:
    """Find what would break or distort training; exit 1 if there are errors."""
    call_verb(
        "data",
        "run_check",
        root=root,
        format=format.value,
        decode=decode,
        num_queries=queries,
        allow=allow or [],
        json_file=json,
        said={"train": train, "val": val, "test": test},
        bit_depth=bit_depth,
        exif=exif,
    )


@data_app.command("show")
def data_show(
    root: Source,
    out: Annotated[Path, typer.Option(help="New directory of the pictures and the page.")],
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    count: Annotated[int, typer.Option(help="Images to draw.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of their choice.")] = 0,
    config: Annotated[Path | None, typer.Option(help="Show what a run of this configuration would see.")] = None,
    format: Annotated[DataFormat | None, typer.Option(help="Format of the dataset.")] = None,
    train: TrainOption = None,
    val: ValOption = None,
    test: TestOption = None,
) -> None:
    """Draw annotated images, as they are and as the model sees them, and plot what the annotations hold."""
    call_verb(
        "data_show",
        "run_show",
        root=root,
        out=out,
        split=split,
        count=count,
        seed=seed,
        config=config,
        overrides=[*(overrides or []), *([f"data.format={format.value}"] if format else [])],
        said={"train": train, "val": val, "test": test},
    )


@data_app.command("convert")
def data_convert(
    source: Source,
    to: Annotated[str, typer.Option(help="coco or yolo.")],
    out: Annotated[Path, typer.Option(help="New directory.")],
    allow: AllowOption = None,
    format: FormatOption = DataFormat.auto,
    train: TrainOption = None,
    val: ValOption = None,
    test: TestOption = None,
    exif: ExifOption = "auto",
) -> None:
    """Write a dataset in another format; exit 1, with nothing written, if it has errors."""
    call_verb(
        "data_change",
        "run_convert",
        source=source,
        to=to,
        out=out,
        allow=allow or [],
        format=format.value,
        said={"train": train, "val": val, "test": test},
        exif=exif,
    )


@data_app.command("split")
def data_split(
    source: Source,
    out: Annotated[Path, typer.Option(help="New directory.")],
    fractions: Annotated[str, typer.Option(help="Shares of train, valid and test.")] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 0,
    to: Annotated[str, typer.Option(help="Format of what is written: coco or yolo.")] = "coco",
    allow: AllowOption = None,
    format: FormatOption = DataFormat.auto,
    train: Annotated[
        str | None,
        typer.Option(help="The split to divide: NAME or '{annotations: FILE, images: DIRECTORY}'.", metavar="SPLIT"),
    ] = None,
    exif: ExifOption = "auto",
) -> None:
    """Divide one annotated split: stratified by class, near-identical images in one part; exit 1 if it has errors."""
    call_verb(
        "data_change",
        "run_split",
        source=source,
        out=out,
        fractions=fractions,
        seed=seed,
        to=to,
        allow=allow or [],
        format=format.value,
        said={"train": train},
        exif=exif,
    )


@data_app.command("download")
def data_download(
    what: Annotated[str, typer.Argument(help="WORKSPACE/PROJECT/VERSION of Roboflow, or the address of an archive.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    sha256: Annotated[str | None, typer.Option(help="What the archive must hash to.")] = None,
) -> None:
    """Fetch a dataset and unpack it safely."""
    call_verb("data_change", "run_download", what=what, out=out, sha256=sha256)
