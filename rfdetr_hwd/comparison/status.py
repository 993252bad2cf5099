"""How far planned runs are, read from their directories."""

from pathlib import Path
from typing import Literal

from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.run_log import read_end
from rfdetr_hwd.config.changes import changes, is_among
from rfdetr_hwd.config.experiment import PlannedRun
from rfdetr_hwd.config.folds import Fold
from rfdetr_hwd.config.load import with_bit_depth
from rfdetr_hwd.errors import ConfigError

Status = Literal["new", "started", "finished"]

AnyRun = PlannedRun | Fold
"""A run with a name, a configuration and a directory."""

FREE = (
    *("data.root", "data.workers", "data.worker_timeout", "evaluation.", "output."),
    *("train.log_every", "train.micro_batch", "train.max_hours"),
)
"""Keys that do not change what is trained: where the data is, how it is loaded, what is printed and saved."""


def status_of(run: AnyRun) -> Status:
    """Return how far a run is.

    Raises:
        ConfigError: Its directory holds a run with another configuration.
    """
    folder = RunFolder(run.path)
    if not folder.is_run:
        return "new"
    trained = folder.config()
    for key, (recorded, planned) in changes(trained, with_bit_depth(run.config, trained.data.bit_depth)).items():
        if not is_among(key, FREE):
            raise ConfigError(
                f"{run.path} was trained with {key}={recorded}, which is now {planned}. Choose another output "
                "directory, or undo the change"
            )
    is_over = read_end(folder.log_file).get("reason") in ("completed", "early_stopping")
    return "finished" if is_over and folder.has_checkpoints() else "started"


def log_file(run: AnyRun) -> Path:
    """Return the file with the output of a run's training."""
    return run.path.with_name(f"{run.path.name}.log")
