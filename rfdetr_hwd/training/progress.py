"""The console as a tracker: a live line on a terminal, plain lines elsewhere."""

import sys
from contextlib import suppress
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from rfdetr_hwd.console import digits, open_console, say, silence
from rfdetr_hwd.training.trackers import Pictures, Values

_SPEED = ("images_per_second", "memory_gib", "seconds_per_step")


class ConsoleTracker:
    """Shows loss, learning rate, AP so far, images per second, memory and the time left.

    Args:
        first_step: Steps completed before.
        total_steps: Steps of the run.
        epochs: Epochs of the run.
        ap: AP of the last evaluation, if there was one.
    """

    def __init__(self, first_step: int, total_steps: int, epochs: int, ap: float | None = None) -> None:
        self.total_steps, self.epochs = total_steps, epochs
        self._ap = f"AP {digits(ap, 3)}"
        self._console = open_console(sys.stdout)
        self._live: Progress | None = None
        if self._console.is_interactive:
            self._live = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=self._console
            )
            self._task = self._live.add_task("training", total=total_steps, completed=first_step)
            self._live.start()

    def log(self, step: int, values: Values) -> None:
        """Show the values of a step or of an evaluation. A closed terminal does not stop the run."""
        try:
            self._show(step, values)
        except OSError:
            silence()

    def _show(self, step: int, values: Values) -> None:
        if "loss" not in values:
            self._show_evaluation(step, values)
            return
        pace, memory, seconds = (values[f"speed/{name}"] or 0.0 for name in _SPEED)
        left = timedelta(seconds=round(seconds * (self.total_steps - step)))
        text = (
            f"epoch {int(values['epoch'] or 0) + 1}/{self.epochs}  loss {values['loss']:.3f}  lr {values['lr']:.2e}  "
            f"{self._ap}  {pace:.1f} img/s  {memory:.1f} GiB  {left} left"
        )
        if self._live is not None:
            self._live.update(self._task, completed=step, description=text)
        else:
            self._print(f"step {step}/{self.total_steps}  {text}")

    def show(self, step: int, pictures: Pictures) -> None:
        """Do nothing: a terminal shows text."""

    def close(self) -> None:
        """End the live line."""
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()

    def _show_evaluation(self, step: int, values: Values) -> None:
        aps = {kind: values[f"{kind}/AP"] for kind in ("ema", "raw") if f"{kind}/AP" in values}
        parts = [f"{kind} AP {digits(ap)} AP50 {digits(values[f'{kind}/AP50'])}" for kind, ap in aps.items()]
        self._ap = f"AP {digits(max((ap for ap in aps.values() if ap is not None), default=None), 3)}"
        epoch = int(values["epoch"] or 0)
        self._print(f"step {step}/{self.total_steps}  epoch {epoch}/{self.epochs}  {'  '.join(parts)}")

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._console.print(text, highlight=False)
        else:
            say(text)
