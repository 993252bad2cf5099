"""`rfdetr-hwd checkpoint show`: print the contents of checkpoints."""

from typing import TYPE_CHECKING

from rfdetr_hwd.cli.options import CheckpointPath
from rfdetr_hwd.console import digits, print_table, say

if TYPE_CHECKING:
    from rfdetr_hwd.checkpoint.read import Checkpoint


def show(path: CheckpointPath) -> None:
    """Show step, epoch, metrics, class names and files."""
    from rfdetr_hwd.checkpoint.read import checkpoints_of, open_checkpoint

    for directory in checkpoints_of(path):
        _show(open_checkpoint(directory))


def _show(checkpoint: "Checkpoint") -> None:
    # Its place in the run
    state, names = checkpoint.state, checkpoint.record.class_names
    due = ", evaluation due" if state.is_evaluation_due else ""
    say(f"{checkpoint.path}\nstep {state.step}, epoch {state.epoch}, step {state.step_in_epoch} of the next{due}")
    say(f"classes: {', '.join(names)}")

    # Metrics
    if state.best_ap is None:
        say("best so far: none, because no evaluation has run yet")
    else:
        say(f"best so far: {state.best_weights} AP {digits(state.best_ap)} at step {state.best_step}")
    metrics = [(name, digits(value)) for name, value in state.current_metrics.items()]
    if metrics:
        print_table("metrics", ("metric", "value"), metrics)

    # Files
    files = [(name, f"{entry.bytes:,}", entry.sha256[:16]) for name, entry in checkpoint.files.items()]
    print_table("files", ("file", "bytes", "sha256"), files)
