"""The runs of a cross-validation: each holds out another part of the training images, and is a run in every other way.

Like the schema of a run, this module imports neither torch nor rfdetr.
"""

from pathlib import Path
from typing import NamedTuple

from rfdetr_hwd.config.schema import Config


class Fold(NamedTuple):
    """A run that holds out one part.

    Attributes:
        number: Number of the part, from 1.
        config: Its configuration.
    """

    number: int
    config: Config

    @property
    def name(self) -> str:
        """Its name, which is also that of its directory."""
        return f"fold-{self.number}"

    @property
    def path(self) -> Path:
        """Its run directory."""
        return Path(self.config.output.dir)


def plan_folds(config: Config, number: int, out: Path) -> list[Fold]:
    """Return a run for each part, with the configuration of another run.

    A fold has no trackers, no report and no time limit: these are for the run alone.

    Args:
        config: The configuration. `data.val_seed` divides the training images.
        number: Number of parts, at least 2.
        out: Directory of their run directories.
    """
    folds = []
    for part in range(1, number + 1):
        data = config.data.model_copy(update={"val_fraction": 1 / number, "val_part": part})
        train = config.train.model_copy(update={"max_hours": None})
        changed = {"dir": str(out / f"fold-{part}"), "trackers": (), "report": False}
        output = config.output.model_copy(update=changed)
        folds.append(Fold(part, config.model_copy(update={"data": data, "train": train, "output": output})))
    return folds
