"""`rfdetr-hwd compare`: is one arm better than another, or is it noise?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rfdetr_hwd.cli.options import Corruptions, Severities, Shifts
from rfdetr_hwd.cli.robustness import add_robustness
from rfdetr_hwd.console import print_table, say
from rfdetr_hwd.errors import writing
from rfdetr_hwd.files import check_directory

if TYPE_CHECKING:
    from rfdetr_hwd.checkpoint.read import Checkpoint
    from rfdetr_hwd.comparison.artefact_cost import ModelCost
    from rfdetr_hwd.comparison.measured import Measured
    from rfdetr_hwd.comparison.results import Comparison
    from rfdetr_hwd.comparison.sources import Source
    from rfdetr_hwd.config.experiment import ComparisonSection, Plan

VARIED = ("downsample.",)
"""What arms may differ in, unless --vary says more: the harness exists to compare downsamplers."""


def compare(
    arms: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]PATH...",
            help="Two arms or more: runs, checkpoints, directories with runs in seed-K, evaluations, COCO result "
            "files. Or one experiment. NAME=PATH,PATH puts several runs into one arm. The first arm is the baseline.",
        ),
    ],
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Key that the arms may differ in, beside downsample.*. May be repeated."),
    ] = None,
    weights: Annotated[Literal["ema", "raw"], typer.Option(help="Weights of the last checkpoint to evaluate.")] = "ema",
    split: Annotated[Literal["val", "test"], typer.Option(help="Split to evaluate on.")] = "val",
    margin: Annotated[
        float,
        typer.Option(help="Arms whose difference lies within plus or minus this are equivalent.", min=0, max=1),
    ] = 0.005,
    shifts: Shifts = 0,
    corruptions: Corruptions = False,
    severities: Severities = None,
    ground_truth: Annotated[
        Path | None, typer.Option(help="COCO annotation file that result files were made for.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory of the comparison.")] = Path("comparison"),
) -> None:
    """Say whether one arm is better than another.

    Differences are paired by seed and image. Each has a 95 % interval and a verdict. Arms must match in everything but
    what is compared. Runs are evaluated with their last checkpoint.
    """
    from rfdetr_hwd.comparison.sources import find_sources
    from rfdetr_hwd.config.experiment import ComparisonSection
    from rfdetr_hwd.config.robustness import read_robustness

    robustness = read_robustness(shifts, corruptions, severities)
    sources = find_sources(arms)
    settings = ComparisonSection(
        baseline=next(iter(sources)), margin=margin, weights=weights, split=split, **robustness.model_dump()
    )
    _print(compare_sources(sources, settings, [*VARIED, *(vary or [])], ground_truth, out), out)


def compare_experiment(plan: "Plan", out: Path) -> None:
    """Compare the arms of an experiment with the runs that are finished.

    Raises:
        ComparisonError: The baseline, or every other arm, has no finished run.
    """
    from rfdetr_hwd.comparison.compare import ComparisonError
    from rfdetr_hwd.comparison.sources import Source
    from rfdetr_hwd.comparison.status import status_of
    from rfdetr_hwd.config.experiment import dotted

    experiment = plan.experiment
    unfinished = [run for run in plan.runs if status_of(run) != "finished"]
    found = {
        arm: [Source(arm, run.path, "run") for run in plan.of_arm(arm) if run not in unfinished]
        for arm in experiment.arms
    }
    finished = {arm: sources for arm, sources in found.items() if sources}
    for run in unfinished:
        say(f"skipped in the comparison: {run.name} is not finished")
    if experiment.baseline not in finished or len(finished) < 2:
        raise ComparisonError(f"there is nothing to compare yet: {len(finished)} of the arms have a finished run")
    varied = sorted({key for changed in experiment.arms.values() for key in dotted(changed)})
    settings = experiment.comparison.model_copy(update={"baseline": experiment.baseline})
    _print(compare_sources(finished, settings, varied, None, out), out)


def compare_sources(
    sources: "Mapping[str, Sequence[Source]]",
    settings: "ComparisonSection",
    varied: Sequence[str],
    ground_truth: Path | None,
    out: Path,
) -> "Comparison":
    """Measure the sources that are not measured yet, compare them, and write the result.

    Args:
        sources: What is compared, by arm.
        settings: How it is measured and judged.
        varied: Keys that the arms may differ in.
        ground_truth: COCO annotation file that result files were made for.
        out: Directory of the comparison.
    """
    from rfdetr_hwd.comparison.judgement import compare_measured
    from rfdetr_hwd.comparison.measured import measure
    from rfdetr_hwd.comparison.page import build_comparison_page
    from rfdetr_hwd.comparison.results import write_comparison
    from rfdetr_hwd.files import replace_text

    # Measure what is not measured yet: first the files, which may be refused, then the runs, which take long.
    check_directory("--out", out)
    files_first = sorted(sources, key=lambda arm: sources[arm][0].kind != "results")
    found = {arm: [measure(run, settings, ground_truth, _evaluate) for run in sources[arm]] for arm in files_first}
    measured = {arm: found[arm] for arm in sources}

    # Compare, and write the files.
    comparison = compare_measured(measured, settings, varied)
    comparison = comparison.with_costs(_measure_costs(measured, settings.weights))
    with writing("--out", out):
        out.mkdir(parents=True, exist_ok=True)
    write_comparison(out, comparison)
    with writing("--out", out):
        replace_text(out / "report.html", build_comparison_page(comparison))
    return comparison


def _evaluate(checkpoint: "Checkpoint", directory: Path, settings: "ComparisonSection") -> None:
    """Evaluate a checkpoint into a directory."""
    from rfdetr_hwd.cli.evaluate import measure_detector, read_detector_split
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.runtime.process_group import process_group

    say(f"evaluating {checkpoint.path}, {settings.weights} weights")
    detector = Detector.load(checkpoint.path, settings.weights)
    data = read_detector_split(detector, detector.config, settings.split)
    with process_group() as device:
        metrics, evaluation = measure_detector(detector, data, detector.config, directory, device)
        add_robustness(detector, evaluation, metrics, settings, directory)


def _measure_costs(measured: "Mapping[str, Sequence[Measured]]", weights: str) -> "dict[str, ModelCost]":
    """Return the cost of a model of each arm; empty if an arm has no checkpoint."""
    from rfdetr_hwd.comparison.artefact_cost import measure_model_costs
    from rfdetr_hwd.detector import Detector

    checkpoints = {arm: runs[0].checkpoint for arm, runs in measured.items()}
    if any(checkpoint is None for checkpoint in checkpoints.values()):
        return {}
    return measure_model_costs({arm: Detector.load(found.path, weights) for arm, found in checkpoints.items() if found})


def _print(comparison: "Comparison", out: Path) -> None:
    from rfdetr_hwd.comparison.results import (
        COST_HEADER,
        NOISE_HEADER,
        ROBUSTNESS_HEADER,
        VALUE_HEADER,
        VERDICT_HEADER,
        cost_rows,
        noise_rows,
        robustness_rows,
        value_rows,
        verdict_rows,
    )

    print_table("values: mean over seeds [range]", (*VALUE_HEADER, *comparison.metrics), value_rows(comparison))
    print_table(f"differences to {comparison.baseline}, 95 % intervals", VERDICT_HEADER, verdict_rows(comparison))
    print_table("noise", NOISE_HEADER, noise_rows(comparison))
    if rows := robustness_rows(comparison):
        print_table("robustness: means over seeds", ROBUSTNESS_HEADER, rows)
    if rows := cost_rows(comparison):
        print_table("cost of the model as it is shipped, measured in turns", COST_HEADER, rows)
    for note in comparison.notes:
        say(f"note: {note}")
    for sentence in comparison.lead():
        say(sentence)
    say(f"page: {out / 'report.html'}\ntable: {out / 'compare.md'}\nnumbers: {out / 'compare.json'}")
