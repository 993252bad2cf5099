"""Weights & Biases as a tracker (the `wandb` extra)."""

import os

from rfdetr_hwd.training.trackers import Pictures, Values
from rfdetr_hwd.training.tracking.series import PROJECT, Series


class WandbTracker:
    """Writes to `wandb` in the run directory. Nothing is sent unless `WANDB_MODE=online` asks for it.

    `wandb sync RUN/wandb/offline-run-*` sends the files later. The starts of a resumed run share one id.

    Args:
        series: The run.
    """

    def __init__(self, series: Series) -> None:
        import wandb

        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=series.folder.resolve().name,
            id=series.settled_id("wandb"),
            resume="allow",
            dir=str(series.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),  # type: ignore[arg-type]  # wandb checks it
            config=series.config,
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )
        # A resumed run repeats steps, which wandb's own counter would refuse.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Values) -> None:
        """Log the values, except for `None`."""
        self._run.log({"step": step, **{name: value for name, value in values.items() if value is not None}})

    def show(self, step: int, pictures: Pictures) -> None:
        """Log pictures."""
        self._run.log({"step": step, **{name: self._image(picture) for name, picture in pictures.items()}})

    def close(self) -> None:
        """Write pending values."""
        self._run.finish()
