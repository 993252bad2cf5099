"""The command line: a table of verbs, the exit status of errors, signals. A verb loads torch when it is called."""

import io
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from rfdetr_hwd import __version__
from rfdetr_hwd.cli.benchmark.model import model
from rfdetr_hwd.cli.benchmark.op import op
from rfdetr_hwd.cli.benchmark.train import train as train_speed
from rfdetr_hwd.cli.checkpoint.replay import replay
from rfdetr_hwd.cli.checkpoint.show import show as show_checkpoint
from rfdetr_hwd.cli.checkpoint.verify import verify
from rfdetr_hwd.cli.compare import compare
from rfdetr_hwd.cli.data.audit import audit
from rfdetr_hwd.cli.data.check import check
from rfdetr_hwd.cli.data.convert import convert
from rfdetr_hwd.cli.data.demo import demo
from rfdetr_hwd.cli.data.download import download
from rfdetr_hwd.cli.data.show import show as show_data
from rfdetr_hwd.cli.data.split import split
from rfdetr_hwd.cli.doctor import doctor
from rfdetr_hwd.cli.downsample import list_all
from rfdetr_hwd.cli.evaluate import evaluate
from rfdetr_hwd.cli.experiment import experiment
from rfdetr_hwd.cli.export import export
from rfdetr_hwd.cli.predict import predict
from rfdetr_hwd.cli.push import push
from rfdetr_hwd.cli.report import report
from rfdetr_hwd.cli.train import train
from rfdetr_hwd.errors import STOP_SIGNALS, Interrupted, UserError, answered_signals

Verbs = Mapping[str, Callable[..., None]]

VERBS: Verbs = {
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "experiment": experiment,
    "report": report,
    "predict": predict,
    "export": export,
    "push": push,
    "doctor": doctor,
}
GROUPS: Mapping[str, tuple[str, Verbs]] = {
    "data": (
        "Check, show, audit, convert, split, download and make datasets.",
        {
            **{"check": check, "show": show_data, "audit": audit, "convert": convert, "split": split},
            **{"download": download, "demo": demo},
        },
    ),
    "checkpoint": (
        "Show, verify, replay checkpoints.",
        {"show": show_checkpoint, "verify": verify, "replay": replay},
    ),
    "downsample": ("List the downsampling modules.", {"list": list_all}),
    "benchmark": ("Measure speed.", {"model": model, "train": train_speed, "op": op}),
}


class _Table(TyperGroup):
    """The root command: a user error of any verb becomes one message and an exit status here."""

    def invoke(self, ctx: Any) -> Any:
        import logging

        from rfdetr_hwd.runtime.last_words import say_last_words

        logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
        logging.getLogger("rfdetr_hwd").setLevel(logging.INFO)
        warnings.filterwarnings("ignore", message="OpenCV .* is not installed", category=UserWarning)  # supervision's
        try:
            return super().invoke(ctx)
        except (UserError, Interrupted) as error:
            raise typer.Exit(say_last_words(error)) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rfdetr-hwd {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Train RF-DETR with wavelet downsampling, ship stock RF-DETR."""


def _build_table() -> typer.Typer:
    table = typer.Typer(cls=_Table, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False)
    table.callback()(_options)
    for name, verb in VERBS.items():
        table.command(name)(verb)
    for group, (about, verbs) in GROUPS.items():
        part = typer.Typer(help=about, rich_markup_mode=None, no_args_is_help=True)
        for name, verb in verbs.items():
            part.command(name)(verb)
        table.add_typer(part, name=group)
    return table


app = _build_table()


def _leave(number: int, _: object) -> None:
    """Raise `Interrupted`, so that no file is left half written. A second signal kills the process."""
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

    # Print any text, whatever the terminal's encoding
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may not be valid text

    # Leave with an exit status on signals
    signals = answered_signals()
    for number in signals:
        signal.signal(number, _leave)
    try:
        app(prog_name="rfdetr-hwd")
    finally:
        for number in signals:  # the exit status is decided: the shutdown of the interpreter must not change it
            signal.signal(number, signal.SIG_DFL)
