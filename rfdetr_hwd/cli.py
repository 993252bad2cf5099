"""The command line: a table of verbs. A verb's code, and torch with it, is loaded when the verb is called."""

import importlib
import io
import logging
import shlex
import signal
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from rfdetr_hwd import __version__
from rfdetr_hwd.errors import Interrupted, UserError, printable

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

app = typer.Typer(
    help="Train RF-DETR with wavelet downsampling, ship stock RF-DETR.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Work on datasets.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(data_app, name="data")
downsample_app = typer.Typer(help="Show the downsamplers.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(downsample_app, name="downsample")
benchmark_app = typer.Typer(help="Time things.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(benchmark_app, name="benchmark")
checkpoint_app = typer.Typer(help="Look into checkpoints.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(checkpoint_app, name="checkpoint")


class SplitName(StrEnum):
    """Splits that can be evaluated."""

    val = "val"
    test = "test"


class DataFormat(StrEnum):
    """Layouts of a dataset."""

    auto = "auto"
    coco = "coco"
    roboflow = "roboflow"
    yolo = "yolo"
    webdataset = "webdataset"


class WeightsKind(StrEnum):
    """Weights of a checkpoint."""

    auto = "auto"
    ema = "ema"
    plain = "plain"


Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides: train.epochs=12")]
CheckpointPath = Annotated[Path, typer.Argument(help="Run folder (each of its checkpoints) or checkpoint folder.")]
WeightsPath = Annotated[Path, typer.Option(help="Run folder (its best checkpoint) or checkpoint folder.")]


@app.command()
def train(
    overrides: Overrides = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of a new run.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to continue.")] = None,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Accept this change of a continued run: train.lr")
    ] = None,
    auto_resume: Annotated[
        bool, typer.Option("--auto-resume", help="With --config: continue the run in output.dir if there is one.")
    ] = False,
) -> None:
    """Train a new run, or continue one."""
    options = {"config": config, "resume": resume, "accepted": accept or [], "auto_resume": auto_resume}
    _call("train", overrides=overrides or [], **options)


@app.command()
def evaluate(
    weights: WeightsPath,
    overrides: Overrides = None,
    config: Annotated[Path | None, typer.Option(help="Take the data from this file, not the checkpoint.")] = None,
    split: Annotated[SplitName, typer.Option(help="Which split.")] = SplitName.val,
    which: Annotated[WeightsKind, typer.Option(help="Which weights; auto: the better ones.")] = WeightsKind.auto,
    out: Annotated[Path | None, typer.Option(help="Folder of the figures and detections.")] = None,
) -> None:
    """Measure a checkpoint with COCO's figures."""
    _call(
        "evaluate",
        weights=weights,
        config=config,
        split=split.value,
        out=out,
        which=which.value,
        overrides=overrides or [],
    )


@app.command()
def predict(
    source: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    weights: WeightsPath,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("predictions"),
    threshold: Annotated[float, typer.Option(help="Lowest score to keep.")] = 0.5,
) -> None:
    """Detect objects, and draw them."""
    _call("predict", source=source, weights=weights, out=out, threshold=threshold)


@app.command()
def export(
    weights: WeightsPath,
    out: Annotated[Path, typer.Option(help="File to write.")],
    overrides: Overrides = None,
    format: Annotated[str, typer.Option(help="rfdetr, onnx, openvino, tensorrt, ...")] = "rfdetr",
    which: Annotated[WeightsKind, typer.Option(help="Which weights; auto: the better ones.")] = WeightsKind.auto,
    images: Annotated[Path | None, typer.Option(help="Images to compare on, not the validation split.")] = None,
    check_ap: Annotated[bool, typer.Option("--check-ap", help="Also compare AP over the validation split.")] = False,
) -> None:
    """Fold the model into stock RF-DETR, write it, and show that it is the same."""
    _call(
        "export",
        weights=weights,
        format=format,
        out=out,
        which=which.value,
        images=images,
        check_ap=check_ap,
        overrides=overrides or [],
    )


@app.command()
def doctor() -> None:
    """Show versions and devices, and what is missing."""
    _call("doctor")


@data_app.command("demo")
def data_demo(
    out: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    seed: Annotated[int, typer.Option(help="Seed of the drawing.")] = 0,
) -> None:
    """Write the built-in dataset of coloured shapes."""
    _call("data", "run_demo", out=out, seed=seed)


@data_app.command("check")
def data_check(
    root: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    format: Annotated[DataFormat, typer.Option(help="Layout of the folder.")] = DataFormat.auto,
    decode: Annotated[bool, typer.Option(help="Decode every image.")] = True,
    queries: Annotated[int, typer.Option(help="Object queries of the model.")] = 300,
    allow: Annotated[list[str] | None, typer.Option(help="A kind of error to accept; may be repeated.")] = None,
    json: Annotated[Path | None, typer.Option(help="Also write the report to this file.")] = None,
    train: Annotated[str | None, typer.Option(help="Name of the training split, if it is not the usual one.")] = None,
    val: Annotated[str | None, typer.Option(help="Name of the validation split.")] = None,
    test: Annotated[str | None, typer.Option(help="Name of the test split.")] = None,
) -> None:
    """Find what would break or distort training; exit 1 if there are errors."""
    _call(
        "data",
        "run_check",
        root=root,
        format=format.value,
        decode=decode,
        num_queries=queries,
        allow=allow or [],
        json_file=json,
        names={"train": train, "val": val, "test": test},
    )


@data_app.command("show")
def data_show(
    root: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    out: Annotated[Path, typer.Option(help="New folder of the pictures and the page.")],
    overrides: Overrides = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    count: Annotated[int, typer.Option(help="Images to draw.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of their choice.")] = 0,
    config: Annotated[Path | None, typer.Option(help="Show what a run of this configuration would see.")] = None,
) -> None:
    """Draw annotated images, as they are and as the model sees them, and plot what the annotations hold."""
    _call(
        "data_show",
        "run_show",
        root=root,
        out=out,
        split=split,
        count=count,
        seed=seed,
        config=config,
        overrides=overrides or [],
    )


@data_app.command("convert")
def data_convert(
    source: Annotated[Path, typer.Argument(help="Folder of the dataset: YOLO, Pascal VOC, COCO or Roboflow.")],
    to: Annotated[str, typer.Option(help="coco or yolo.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
) -> None:
    """Write a dataset in another format."""
    _call("data_change", "run_convert", source=source, to=to, out=out)


@data_app.command("split")
def data_split(
    source: Annotated[Path, typer.Argument(help="Folder of a dataset with one annotated split.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    fractions: Annotated[str, typer.Option(help="Shares of train, valid and test.")] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 0,
) -> None:
    """Divide a dataset: stratified by class, near-identical images in one part."""
    _call("data_change", "run_split", source=source, out=out, fractions=fractions, seed=seed)


@data_app.command("download")
def data_download(
    what: Annotated[str, typer.Argument(help="WORKSPACE/PROJECT/VERSION of Roboflow, or the address of an archive.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    sha256: Annotated[str | None, typer.Option(help="What the archive must hash to.")] = None,
) -> None:
    """Fetch a dataset and unpack it safely."""
    _call("data_change", "run_download", what=what, out=out, sha256=sha256)


@downsample_app.command("list")
def downsample_list() -> None:
    """List the registered downsamplers."""
    _call("downsample", "run_list")


@checkpoint_app.command("show")
def checkpoint_show(path: CheckpointPath) -> None:
    """Show step, epoch, figures, class names and files."""
    _call("checkpoint", "run_show", path=path)


@checkpoint_app.command("verify")
def checkpoint_verify(path: CheckpointPath) -> None:
    """Check every file against its hash."""
    _call("checkpoint", "run_verify", path=path)


@checkpoint_app.command("replay")
def checkpoint_replay(path: Annotated[Path, typer.Argument(help="Folder in RUN/non-finite.")]) -> None:
    """Make an update again whose loss or gradient was not finite."""
    _call("checkpoint", "run_replay", path=path)


@benchmark_app.command("op")
def benchmark_op(
    batch: Annotated[int, typer.Option(help="Maps of one pass.")] = 8,
    rounds: Annotated[int, typer.Option(help="Times that every downsampler is measured.")] = 15,
    out: Annotated[Path | None, typer.Option(help="Folder of the dated JSON file.")] = None,
) -> None:
    """Time the downsamplers against the stock convolution."""
    _call("benchmark", "run_op", batch=batch, rounds=rounds, out=out)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rfdetr-hwd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train RF-DETR with wavelet downsampling, ship stock RF-DETR."""


def _call(module: str, function: str = "run", /, **arguments: Any) -> None:
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


def _leave(number: int, _: object) -> None:
    """End from the inside, so that nothing is left half written; a second signal ends the process at once."""
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_DFL)
    raise Interrupted(128 + number)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be writable text
    for number in _SIGNALS:
        signal.signal(number, _leave)
    app(prog_name="rfdetr-hwd")
