"""The command line: a table of verbs. A verb's code, and torch with it, is loaded when the verb is called."""

import io
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rfdetr_hwd import __version__
from rfdetr_hwd.cli.call import Overrides, call_verb
from rfdetr_hwd.cli.data_app import data_app
from rfdetr_hwd.errors import STOP_SIGNALS, Interrupted, answered_signals

app = typer.Typer(
    help="Train RF-DETR with wavelet downsampling, ship stock RF-DETR.",
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
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


class WeightsKind(StrEnum):
    """Weights of a checkpoint."""

    auto = "auto"
    ema = "ema"
    plain = "plain"


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
    call_verb("train", overrides=overrides or [], **options)


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
    call_verb(
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
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("predictions"),
    threshold: Annotated[float, typer.Option(help="Lowest score to keep.")] = 0.5,
) -> None:
    """Detect objects, and draw them."""
    call_verb("predict", source=source, weights=weights, out=out, threshold=threshold, overrides=overrides or [])


@app.command()
def export(
    weights: WeightsPath,
    out: Annotated[Path, typer.Option(help="File to write.")],
    overrides: Overrides = None,
    format: Annotated[str, typer.Option(help="rfdetr, onnx, openvino, tensorrt, ...")] = "rfdetr",
    which: Annotated[WeightsKind, typer.Option(help="Which weights; auto: the better ones.")] = WeightsKind.auto,
    images: Annotated[Path | None, typer.Option(help="Images to compare on, not the validation split.")] = None,
    batch: Annotated[int, typer.Option(help="Images of one pass.", min=1)] = 1,
    dynamic_batch: Annotated[
        bool,
        typer.Option("--dynamic-batch", help="Any number of images a pass: onnx, openvino; tensorrt: up to --batch."),
    ] = False,
    check_ap: Annotated[bool, typer.Option("--check-ap", help="Also compare AP over the validation split.")] = False,
) -> None:
    """Fold the model into stock RF-DETR, write it, and show that it is the same."""
    call_verb(
        "export",
        weights=weights,
        format=format,
        out=out,
        which=which.value,
        images=images,
        batch=batch,
        dynamic_batch=dynamic_batch,
        check_ap=check_ap,
        overrides=overrides or [],
    )


@app.command()
def doctor() -> None:
    """Show versions and devices, and what is missing."""
    call_verb("doctor")


@downsample_app.command("list")
def downsample_list() -> None:
    """List the registered downsamplers."""
    call_verb("downsample", "run_list")


@checkpoint_app.command("show")
def checkpoint_show(path: CheckpointPath) -> None:
    """Show step, epoch, figures, class names and files."""
    call_verb("checkpoint", "run_show", path=path)


@checkpoint_app.command("verify")
def checkpoint_verify(path: CheckpointPath) -> None:
    """Check every file against its hash."""
    call_verb("checkpoint", "run_verify", path=path)


@checkpoint_app.command("replay")
def checkpoint_replay(path: Annotated[Path, typer.Argument(help="Folder in RUN/non-finite.")]) -> None:
    """Make an update again whose loss or gradient was not finite."""
    call_verb("checkpoint", "run_replay", path=path)


@benchmark_app.command("op")
def benchmark_op(
    batch: Annotated[int, typer.Option(help="Maps of one pass.")] = 8,
    rounds: Annotated[int, typer.Option(help="Times that every downsampler is measured.")] = 15,
    out: Annotated[Path | None, typer.Option(help="Folder of the dated JSON file.")] = None,
) -> None:
    """Time the downsamplers against the stock convolution."""
    call_verb("benchmark", "run_op", batch=batch, rounds=rounds, out=out)


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


def _leave(number: int, _: object) -> None:
    """End from the inside, so that nothing is left half written; a second signal ends the process at once."""
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_DFL)
    raise Interrupted(128 + number)


def main() -> None:
    """Run the command line."""
    if sys.platform == "win32":
        sys.exit(
            "error: rfdetr-hwd runs on Linux and macOS, not on Windows: it relies on POSIX signals and file locks. On "
            "Windows, install and run it in WSL 2 (https://learn.microsoft.com/windows/wsl)"
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be writable text
    signals = answered_signals()
    for number in signals:
        signal.signal(number, _leave)
    try:
        app(prog_name="rfdetr-hwd")
    finally:
        for number in signals:  # the status is decided: what the interpreter still does at its end must not raise
            signal.signal(number, signal.SIG_DFL)
