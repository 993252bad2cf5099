"""`rfdetr-hwd experiment`: train every arm of an experiment with every seed, then compare the arms."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfdetr_hwd.cli.compare import compare_experiment
from rfdetr_hwd.cli.options import Overrides
from rfdetr_hwd.console import print_table, say
from rfdetr_hwd.errors import Interrupted, UserError

if TYPE_CHECKING:
    from rfdetr_hwd.comparison.status import Status
    from rfdetr_hwd.config.experiment import Plan, PlannedRun


class ExperimentError(UserError):
    """Some runs of an experiment failed. The others are trained and compared."""


def experiment(
    file: Annotated[Path, typer.Argument(help="YAML file of the experiment.")],
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the experiment, measure a few steps of each arm, and stop.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Runs to train at once.", min=1)] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the comparison's files.", show_default="comparison in the output directory"),
    ] = None,
) -> None:
    """Train arms with several seeds, and compare them.

    Finished runs are not trained again, and stopped runs resume. Several processes may work on one experiment.
    """
    from rfdetr_hwd.comparison.status import status_of
    from rfdetr_hwd.comparison.training import train_runs
    from rfdetr_hwd.config.experiment import load_experiment

    # Check every run before any is started.
    plan = load_experiment(file, overrides or [])
    statuses = {run.name: status_of(run) for run in plan.runs}
    left = [run for run in plan.runs if statuses[run.name] != "finished"]
    _print_plan(plan, statuses)

    # Measure and report the cost.
    broken = _report_cost(left, workers) if left else []
    if dry_run and broken:
        raise ExperimentError(f"these arms fail in their first steps: {', '.join(broken)}. See the messages above")
    if dry_run:
        return

    # Train what is not finished.
    try:
        outcomes = train_runs(left, workers, find_devices(workers), say)
    except Interrupted as interruption:
        interruption.advice = f"Stopped. Continue with:\nrfdetr-hwd experiment {file}"
        raise

    # Compare the arms, and report what failed.
    failed = [f"{outcome.run.name}: {outcome.reason}" for outcome in outcomes if outcome.result == "failed"]
    waiting = [outcome.run.name for outcome in outcomes if outcome.result in ("elsewhere", "stopped")]
    if waiting:
        say(f"not finished yet: {', '.join(waiting)}. Run the command again to compare with them")
    for line in failed:
        say(f"failed: {line}")
    compare_experiment(plan, out or Path(plan.experiment.output) / "comparison")
    if failed:
        raise ExperimentError(f"{len(failed)} of {len(plan.runs)} runs failed. Run the command again to resume them")


def _print_plan(plan: "Plan", statuses: "dict[str, Status]") -> None:
    from rfdetr_hwd.config.experiment import dotted

    rows = []
    for arm, changed in plan.experiment.arms.items():
        states = [f"{run.seed} {statuses[run.name]}" for run in plan.of_arm(arm)]
        changes = ", ".join(f"{key}={value}" for key, value in dotted(changed).items())
        rows.append((arm, changes or "nothing", ", ".join(states)))
    print_table(f"experiment in {plan.experiment.output}", ("arm", "changes", "seeds"), rows)


def _report_cost(left: "list[PlannedRun]", workers: int) -> list[str]:
    """Measure a few steps of each arm that is not finished, and print the cost. Return the arms that fail."""
    from rfdetr_hwd.comparison.cost import CostError, describe_cost, measure_cost

    costs, broken = {}, []
    for run in {run.arm: run for run in reversed(left)}.values():
        say(f"measuring a few steps of {run.arm}")
        try:
            costs[run.arm] = measure_cost(run)
        except CostError as error:  # its runs may fail, too; those of the other arms are trained
            say(f"warning: {error}")
            broken.append(run.arm)
    rows = [(arm, f"{c.seconds_per_step:.3f}", f"{c.steps:,}", f"{c.hours:.2f}") for arm, c in costs.items()]
    print_table("cost, measured one run at a time", ("arm", "seconds per step", "steps", "hours per run"), rows)
    say(describe_cost(costs, left, workers))
    return broken


def find_devices(workers: int) -> list[str]:
    """Return the CUDA devices to spread several workers over."""
    import os

    import torch

    if workers == 1 or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
