"""The cost of an experiment, from a few measured steps of each arm."""

import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rfdetr_hwd.checkpoint.run_log import read_starts
from rfdetr_hwd.comparison.training import last_error, training_command
from rfdetr_hwd.config.experiment import PlannedRun
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.files import replace_text

_WARM_UP = 2
"""First steps, which are not measured: they compile kernels and start the data loader workers."""
_STEPS = 12
_SECONDS = 30.0
"""The measurement ends after so many steps, or after so long and at least one step."""


class CostError(UserError):
    """An arm that fails in its first steps."""


class ArmCost(NamedTuple):
    """The cost of one run of an arm.

    Attributes:
        seconds_per_step: Median over the measured steps.
        steps: Steps of the whole run.
    """

    seconds_per_step: float
    steps: int

    @property
    def hours(self) -> float:
        """Hours of training, without evaluations."""
        return self.seconds_per_step * self.steps / 3600


def measure_cost(run: PlannedRun) -> ArmCost:
    """Train a copy of a run for a few steps, in a temporary directory.

    Raises:
        CostError: It fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # Start the copy.
        folder, config = Path(scratch) / "run", Path(scratch) / "config.yaml"
        output = run.config.output.model_copy(update={"dir": str(folder), "save_every_steps": None, "trackers": ()})
        train = run.config.train.model_copy(update={"log_every": 1})
        replace_text(config, run.config.model_copy(update={"output": output, "train": train}).to_yaml())
        log = Path(scratch) / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                training_command(config), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
        # Watch its steps, then end it: nothing of it is kept.
        try:
            ends = _watch_steps(process, folder / "metrics.jsonl")
        finally:
            process.kill()
            status = process.wait()
        steps = _total_steps(folder)
        if len(ends) < 2 or steps is None:
            raise CostError(f"{run.name} fails in its first steps: {last_error(log)} (exit status {status})")
    measured = ends[_WARM_UP:] if len(ends) > _WARM_UP + 1 else ends
    return ArmCost((measured[-1] - measured[0]) / (len(measured) - 1), steps)


def _watch_steps(process: subprocess.Popen[bytes], metrics: Path) -> list[float]:
    """Return when each step ended, on the clock of `time.monotonic`."""
    ends: list[float] = []
    while len(ends) <= _WARM_UP + _STEPS:
        is_over = process.poll() is not None
        lines = metrics.read_bytes().count(b'"loss"') if metrics.exists() else 0
        ends += [time.monotonic()] * (lines - len(ends))
        is_long = len(ends) > _WARM_UP + 1 and ends[-1] - ends[0] > _SECONDS
        if is_over or is_long:
            break
        time.sleep(0.01)
    return ends


def _total_steps(folder: Path) -> int | None:
    starts = read_starts(folder / "run.json")
    return int(starts[-1]["derived"]["total_steps"]) if starts else None


def describe_cost(costs: Mapping[str, ArmCost], left: Sequence[PlannedRun], workers: int) -> str:
    """Return the cost of the runs that are left, in one line."""
    known = [run for run in left if run.arm in costs]
    if not known:
        return f"{len(left)} runs to train, of unknown cost"
    hours = sum(costs[run.arm].hours for run in known)
    unknown = f", and {len(left) - len(known)} of unknown cost" if len(known) < len(left) else ""
    wall = f", {hours / workers:.1f} h with {workers} workers" if workers > 1 else ""
    return f"{len(left)} runs to train: {hours:.1f} h{wall}{unknown}. Evaluations come on top"
