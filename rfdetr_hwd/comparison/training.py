"""Train planned runs, each in a process of its own, several at once if wanted.

Several processes may work on the same runs: a lock decides which of them trains a run.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple

from rfdetr_hwd.checkpoint.lock import locked
from rfdetr_hwd.comparison.status import AnyRun, log_file
from rfdetr_hwd.errors import ConfigError, Interrupted, writing
from rfdetr_hwd.files import replace_text
from rfdetr_hwd.runtime.interrupt import TIME_LIMIT_CODE

_POLL_SECONDS = 0.2
_REPORT_SECONDS = 60.0
"""Seconds between two progress lines of a run."""


class Outcome(NamedTuple):
    """What became of a run.

    Attributes:
        run: The run.
        result: `finished`; `failed`; `stopped` by a signal or its time limit; `elsewhere`, in another process.
        reason: Why it failed or stopped, in one line.
    """

    run: AnyRun
    result: Literal["finished", "failed", "stopped", "elsewhere"]
    reason: str = ""


def train_runs(
    runs: Sequence[AnyRun], workers: int, devices: Sequence[str], report: Callable[[str], None]
) -> list[Outcome]:
    """Train runs, or resume them. A run that fails does not keep the others from being trained.

    Args:
        runs: The runs, in the order in which they start.
        workers: Runs to train at once.
        devices: CUDA devices to spread them over, as CUDA_VISIBLE_DEVICES names them; empty: do not set it.
        report: Receives progress, a line at a time.

    Raises:
        Interrupted: The process was asked to stop. The runs have saved their state.
        ConfigError: A file cannot be written.
    """
    waiting, outcomes = list(runs), list[Outcome]()
    slots: list[_Training | None] = [None] * workers
    with _stopped_together(slots):
        while waiting or any(slots):
            for number, training in enumerate(slots):
                # Take the next run that no other process trains.
                while slots[number] is None and waiting:
                    run = waiting.pop(0)
                    device = devices[number % len(devices)] if devices else None
                    slots[number] = _Training.start(run, device)
                    if slots[number] is None:
                        outcomes.append(Outcome(run, "elsewhere"))
                    report(f"{run.name}: {'training' if slots[number] else 'trained by another process'}")
                # Report progress, and the end.
                if training is not None:
                    training.report_progress(report)
                    if (outcome := training.outcome()) is not None:
                        slots[number] = None
                        outcomes.append(outcome)
                        report(f"{outcome.run.name}: {outcome.result}{f': {outcome.reason}' if outcome.reason else ''}")
            time.sleep(_POLL_SECONDS)
    return outcomes


@contextmanager
def _stopped_together(slots: "Sequence[_Training | None]") -> Iterator[None]:
    """Stop the trainings if this process is asked to stop, and wait until they have saved their state."""
    try:
        yield
    except Interrupted:
        trainings = [training for training in slots if training is not None]
        for training in trainings:
            training.process.terminate()
        for training in trainings:
            training.process.wait()
        raise


@dataclass
class _Training:
    """A run in training.

    Attributes:
        run: The run.
        process: Its process.
        log: Its output, from this start on.
        claim: Holds the lock that keeps other processes from the run.
    """

    run: AnyRun
    process: subprocess.Popen[bytes]
    log: IO[str]
    claim: ExitStack
    reported_at: float = 0.0

    @classmethod
    def start(cls, run: AnyRun, device: str | None) -> "_Training | None":
        """Start to train a run, or return `None` if another process trains it."""
        folder = run.path.parent
        with writing("output", folder):
            _claim_directory(run).mkdir(parents=True, exist_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            # Claim it, so that no other process trains it.
            try:
                stack.enter_context(locked(_claim_directory(run), timeout=0))
                if run.path.is_dir():  # someone may train it without the experiment
                    with locked(run.path, timeout=0):
                        pass
            except ConfigError:
                return None
            # Start its process. Ctrl-C in a terminal reaches this process alone, which asks the run to stop, once.
            config = folder / f"{run.path.name}.yaml"
            with writing("output", folder):
                replace_text(config, run.config.to_yaml())
                output = stack.enter_context(log_file(run).open("ab"))
                log = stack.enter_context(log_file(run).open(encoding="utf-8", errors="replace"))
            log.seek(0, os.SEEK_END)
            environment = os.environ | ({"CUDA_VISIBLE_DEVICES": device} if device is not None else {})
            process = subprocess.Popen(
                training_command(config),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            return cls(run, process, log, stack.pop_all())
        return None

    def report_progress(self, report: Callable[[str], None]) -> None:
        """Report the newest step, not too often."""
        now = time.monotonic()
        if now - self.reported_at < _REPORT_SECONDS:
            return
        steps = [line for line in self.log.read().splitlines() if line.startswith("step ")]
        if steps:
            self.reported_at = now
            report(f"{self.run.name}: {steps[-1]}")

    def outcome(self) -> Outcome | None:
        """Return what became of the run, or `None` while it trains."""
        status = self.process.poll()
        if status is None:
            return None
        self.claim.close()
        if status == 0:
            return Outcome(self.run, "finished")
        if status >= TIME_LIMIT_CODE:
            return Outcome(self.run, "stopped", f"exit status {status}; it resumes when the command is run again")
        return Outcome(self.run, "failed", f"{last_error(log_file(self.run))} (exit status {status})")


def training_command(config: Path) -> list[str]:
    """Return the command that trains a run from its configuration, or resumes it."""
    return [sys.executable, "-m", "rfdetr_hwd", "train", "--config", str(config), "--auto-resume"]


def _claim_directory(run: AnyRun) -> Path:
    return run.path.parent / ".claims" / run.path.name


def last_error(path: Path) -> str:
    """Return the last error of a log, or its last line."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it printed nothing"])[-1]
