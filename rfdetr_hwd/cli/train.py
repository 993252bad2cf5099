"""`rfdetr-hwd train`: train a new run, or resume one."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfdetr_hwd.cli.options import Overrides
from rfdetr_hwd.errors import Interrupted, writing

if TYPE_CHECKING:
    from rfdetr_hwd.training.last_evaluation import LastEvaluation


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

    last = run(config, resume, overrides or [], accept or [], auto_resume)
    if last is not None:
        report_training(last)


def report_training(last: "LastEvaluation") -> None:
    """Write the report of a finished run. The run does not fail because of it."""
    import logging

    from rfdetr_hwd.cli.report import read_run, write_report
    from rfdetr_hwd.evaluation.results import write_results
    from rfdetr_hwd.report.evaluation_report import ReportInputs

    again = f"rfdetr-hwd report {shlex.quote(str(last.run))}"
    try:
        with writing("output.dir", last.directory):
            last.directory.mkdir(exist_ok=True)
        write_results(last.directory, last.metrics, last.protocol, last.detections, last.data)
        write_report(ReportInputs(last.data, last.detections, last.protocol, read_run(last.run)), last.directory)
    except Interrupted as interruption:
        interruption.advice = f"The run is complete, its report is not. Write it with:\n{again}"
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        logging.getLogger(__name__).warning("no report was written: %s. Write it with: %s", reason, again)
