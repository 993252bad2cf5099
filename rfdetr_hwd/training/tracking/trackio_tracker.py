"""trackio as a tracker (the `trackio` extra)."""

import os

from rfdetr_hwd.training.trackers import Pictures, Values
from rfdetr_hwd.training.tracking.series import PROJECT, Series


class TrackioTracker:
    """Writes to trackio's local database, in `trackio` in the run directory unless `TRACKIO_DIR` names another place.

    Args:
        series: The run. A resumed one continues its trackio run.
    """

    def __init__(self, series: Series) -> None:
        # It reads the variable once, when it is imported: two runs of one process share the place of the first.
        os.environ.setdefault("TRACKIO_DIR", str(series.folder.resolve() / "trackio"))
        import trackio

        self._image = trackio.Image
        self._run = trackio.init(
            project=PROJECT,
            name=f"{series.folder.resolve().name}-{series.settled_id('trackio')}",
            resume="allow",
            config=series.config,
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, step: int, values: Values) -> None:
        """Log the values, except for `None`."""
        self._run.log({name: value for name, value in values.items() if value is not None}, step=step)

    def show(self, step: int, pictures: Pictures) -> None:
        """Log pictures."""
        self._run.log({name: self._image(picture) for name, picture in pictures.items()}, step=step)

    def close(self) -> None:
        """Write pending values."""
        self._run.finish()
