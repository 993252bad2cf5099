"""TensorBoard as a tracker (the `tensorboard` extra)."""

import numpy as np

from rfdetr_hwd.training.trackers import Pictures, Values
from rfdetr_hwd.training.tracking.series import Series


class TensorBoardTracker:
    """Writes event files to `tensorboard` in the run directory.

    Args:
        series: The run. Steps after its last one are hidden: a resumed run repeats them.
    """

    def __init__(self, series: Series) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(series.folder / "tensorboard"), purge_step=series.last_step + 1)

    def log(self, step: int, values: Values) -> None:
        """Add one scalar per value, except for `None`."""
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)

    def show(self, step: int, pictures: Pictures) -> None:
        """Add pictures."""
        for name, picture in pictures.items():
            self._writer.add_image(name, np.asarray(picture), step, dataformats="HWC")

    def close(self) -> None:
        """Write pending values."""
        self._writer.close()
