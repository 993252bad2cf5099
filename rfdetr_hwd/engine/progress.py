"""The console as a tracker: a live line on a terminal, plain lines elsewhere."""

import resource
import sys
import time
from contextlib import suppress
from datetime import timedelta

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from rfdetr_hwd.engine.tracking import Values
from rfdetr_hwd.terminal import open_console, say, silence


class ConsoleTracker:
    """Shows loss, AP so far, images per second, memory and the time left.

    Args:
        first_step: Updates made before.
        total_steps: Updates of the run.
        batch_size: Images of an update.
        epochs: Epochs of the run.
        ap: AP of the last evaluation, if there was one.
    """

    def __init__(
        self, first_step: int, total_steps: int, batch_size: int, epochs: int, ap: float | None = None
    ) -> None:
        self.total_steps, self.batch_size, self.epochs = total_steps, batch_size, epochs
        self._last = (first_step, time.monotonic())
        self._ap = "AP -" if ap is None else f"AP {ap:.3f}"
        self._console = open_console(sys.stdout)
        self._live: Progress | None = None
        if self._console.is_interactive:
            self._live = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=self._console
            )
            self._task = self._live.add_task("training", total=total_steps, completed=first_step)
            self._live.start()

    def log(self, step: int, values: Values) -> None:
        """Show the values of an update, or of an evaluation; a terminal that is gone costs nothing else."""
        try:
            self._show(step, values)
        except OSError:
            silence()

    def _show(self, step: int, values: Values) -> None:
        now = time.monotonic()
        if "loss" not in values:
            self._show_evaluation(step, values)
            self._last = (step, now)
            return
        last_step, then = self._last
        self._last = (step, now)
        seconds_per_step = (now - then) / max(1, step - last_step)
        left = timedelta(seconds=round(seconds_per_step * (self.total_steps - step)))
        text = (
            f"epoch {int(values['epoch']) + 1}/{self.epochs}  loss {values['loss']:.3f}  {self._ap}  "
            f"{self.batch_size / seconds_per_step:.1f} img/s  {_memory_gib():.1f} GiB  {left} left"
        )
        if self._live is not None:
            self._live.update(self._task, completed=step, description=text)
        else:
            self._print(f"step {step}/{self.total_steps}  {text}")

    def close(self) -> None:
        """End the live line."""
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()

    def _show_evaluation(self, step: int, values: Values) -> None:
        measured = {kind: values[f"{kind}/AP"] for kind in ("ema", "plain") if f"{kind}/AP" in values}
        parts = [f"{kind} AP {ap:.4f} AP50 {values[f'{kind}/AP50']:.4f}" for kind, ap in measured.items()]
        self._ap = f"AP {max(measured.values()):.3f}"
        self._print(f"step {step}/{self.total_steps}  epoch {int(values['epoch'])}/{self.epochs}  {'  '.join(parts)}")

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._console.print(text, highlight=False)
        else:
            say(text)


def _memory_gib() -> float:
    """Return the peak memory of this process: of the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
