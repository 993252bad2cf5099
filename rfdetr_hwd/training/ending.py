"""How a run ends by itself: the reason, the message, and the entry in run.json."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.run_log import add_end
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.errors import Interrupted
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.environment import now

Ending = Literal["completed", "early_stopping"]
"""How a run ends by itself."""


def ending(config: Config, state: TrainState) -> Ending | None:
    """Return why a run is over: its last epoch is evaluated, or early stopping. `None`: it is not over."""
    if state.is_evaluation_due:
        return None
    if state.epoch >= config.train.epochs:
        return "completed"
    early_stop = config.train.early_stop
    is_stalled = early_stop is not None and state.evaluations_since_best >= early_stop
    return "early_stopping" if is_stalled else None


def describe_ending(config: Config, state: TrainState) -> str | None:
    """Return why and when a run ended by itself; `None`: it has not."""
    match ending(config, state):
        case "completed":
            return f"the run is complete: {state.epoch} epochs, {state.step} steps"
        case "early_stopping":
            since = state.evaluations_since_best
            return (
                f"early stopping at step {state.step}, after epoch {state.epoch} of {config.train.epochs}: the last "
                f"{f'{since} evaluations' if since > 1 else 'evaluation'} did not exceed the best AP "
                f"({state.best_ap or 0:.4f}, of step {state.best_step}); train.early_stop={config.train.early_stop}"
            )
    return None


@contextmanager
def recorded_end(folder: RunFolder, config: Config, state: TrainState) -> Iterator[None]:
    """Record in run.json how this start of the run ended. A killed run records nothing."""
    reason, message = "failed", ""
    try:
        yield
        reason, message = ending(config, state) or "failed", describe_ending(config, state) or ""
    except Interrupted as interruption:
        reason, message = "interrupted", f"exit status {interruption.status}"
        raise
    except BaseException as error:
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        raise
    finally:
        # Write the end, however it came about.
        best = {"ap": state.best_ap, "step": state.best_step, "weights": state.best_weights}
        entry = {"reason": reason, "message": message, "step": state.step, "epoch": state.epoch, "best": best}
        if distributed.is_main():
            add_end(folder.log_file, {"time": now(), **entry})
