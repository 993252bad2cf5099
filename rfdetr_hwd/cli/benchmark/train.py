"""`rfdetr-hwd benchmark train`: where the time of a training step goes, and the change that would help most."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rfdetr_hwd.cli.benchmark.record import write_record
from rfdetr_hwd.cli.options import Overrides
from rfdetr_hwd.console import print_table, say
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.files import check_directory

if TYPE_CHECKING:
    from rfdetr_hwd.checkpoint.read import Checkpoint
    from rfdetr_hwd.config.schema import Config
    from rfdetr_hwd.training.step_profile import StepProfile


def train(
    overrides: Overrides = None,
    config: Annotated[Path | None, typer.Option(help="YAML configuration of a run, from random weights.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Run directory or checkpoint directory.")] = None,
    steps: Annotated[int, typer.Option(help="Steps to measure, after the warm-up.", min=1)] = 10,
    out: Annotated[Path | None, typer.Option(help="Directory for the dated JSON file.")] = None,
) -> None:
    """Show where the time of a training step goes, and what would help most.

    A few real steps are made with a learning rate of 0. Nothing is written into a run directory.
    """
    import tempfile

    from rfdetr_hwd.runtime import distributed
    from rfdetr_hwd.runtime.determinism import make_deterministic
    from rfdetr_hwd.runtime.environment import describe_machine
    from rfdetr_hwd.runtime.interrupt import StopRequest
    from rfdetr_hwd.runtime.process_group import process_group
    from rfdetr_hwd.training.setup import build
    from rfdetr_hwd.training.step_profile import build_profiled, profile_steps

    if out is not None:
        check_directory("--out", out)
    # Read the configuration. What a run would write goes into a temporary directory
    settings, checkpoint = _read(config, weights, overrides or [])
    if settings.train.deterministic:
        make_deterministic()
    with tempfile.TemporaryDirectory() as scratch, process_group() as device:
        output = settings.output.model_copy(update={"dir": scratch})
        settings = settings.model_copy(update={"output": output})

        # Make the steps
        built = build(settings, checkpoint.record.held_out if checkpoint else None, device, StopRequest())
        learner = build_profiled(built, checkpoint.weights("raw") if checkpoint else None)
        profile = profile_steps(built, learner, steps)
        if not distributed.is_main():
            return

        # Print them, and the advice
        ranks = f", on each of {distributed.world_size()} ranks" if distributed.world_size() > 1 else ""
        say(f"machine: {describe_machine(device)}{ranks}; {profile.precision}")
        advice = _print(profile, steps)
        if out is not None:
            given = ["--config", str(config)] if config else ["--weights", str(weights)]
            words = ["rfdetr-hwd", "benchmark", "train", *given, "--steps", str(steps), *(overrides or [])]
            write_record(out, "step", shlex.join(words), device, _as_json(profile, advice))


def _read(config: Path | None, weights: Path | None, overrides: list[str]) -> "tuple[Config, Checkpoint | None]":
    """Return the configuration of the steps, and the checkpoint with their weights."""
    from rfdetr_hwd.checkpoint.data_root import locate_data
    from rfdetr_hwd.checkpoint.record import find_checkpoint, recorded_config, refuse_untrusted_class
    from rfdetr_hwd.config.load import load_config

    if (config is None) == (weights is None):
        raise ConfigError("give --config FILE for a new run, or --weights RUN_DIR for one that was trained")
    if weights is None:
        return load_config(config or Path(), overrides), None
    checkpoint = find_checkpoint(weights)
    settings = recorded_config(checkpoint, overrides)
    refuse_untrusted_class(settings, str(checkpoint.path))
    return settings.model_copy(update={"data": locate_data(settings.data, checkpoint.run)}), checkpoint


def _print(profile: "StepProfile", steps: int) -> str:
    """Print the table of the parts, the totals, and the advice, which is returned."""
    from rfdetr_hwd.runtime.launch import cores_of_a_rank
    from rfdetr_hwd.training.step_advice import advise
    from rfdetr_hwd.training.step_profile import PARTS

    # The parts of a step
    rows = [
        (PARTS[part], f"{1e3 * seconds:.1f}", f"{profile.fraction(part):.1%}")
        for part, seconds in profile.seconds.items()
    ]
    title = f"a step of {profile.images} images, {profile.micro_batch} in a forward pass: mean of {steps} steps"
    print_table(title, ("part", "ms", "of the step"), [*rows, ("sum", f"{1e3 * profile.mean_step:.1f}", "100.0%")])

    # The totals
    median, p95 = profile.step
    say(f"step: median {1e3 * median:.0f} ms, p95 {1e3 * p95:.0f} ms; {profile.images_per_second:.1f} images/s")
    say(f"loader alone: {profile.loader_rate:.1f} images/s with data.workers={profile.workers}")
    say(f"peak memory: {profile.peak_bytes / 2**30:.2f} GiB")
    if profile.doubled is not None:
        size, factor = profile.doubled
        how = "does not fit into memory" if factor is None else f"a step takes {factor:.2f} times as long"
        say(f"train.micro_batch={size}: {how}")

    # The advice
    advice = advise(profile, cores_of_a_rank())
    say(f"what would help most: {advice}")
    return advice


def _as_json(profile: "StepProfile", advice: str) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        **asdict(profile),
        "step": profile.step._asdict(),
        "images_per_second": profile.images_per_second,
        "advice": advice,
    }
