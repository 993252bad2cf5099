"""The trackers that `output.trackers` names."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.training.trackers import Tracker, Trackers
from rfdetr_hwd.training.tracking.guarded import Guarded
from rfdetr_hwd.training.tracking.mlflow_tracker import MlflowTracker
from rfdetr_hwd.training.tracking.pictured import Pictured
from rfdetr_hwd.training.tracking.series import Series
from rfdetr_hwd.training.tracking.tensorboard_tracker import TensorBoardTracker
from rfdetr_hwd.training.tracking.trackio_tracker import TrackioTracker
from rfdetr_hwd.training.tracking.wandb_tracker import WandbTracker

TRACKERS: Mapping[str, Callable[[Series], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
    "trackio": TrackioTracker,
}
"""Each by its name, which is that of its package and of its extra, too."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose packages are not installed, before anything long is done.

    Raises:
        ConfigError: One is missing.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"output.trackers: {name} is not installed. Run pip install 'rfdetr-hwd[{name}]', or remove {name}"
            )


def open_trackers(names: Sequence[str], series: Series, evaluation: Evaluation) -> list[Tracker]:
    """Open trackers, with pictures of predictions at each evaluation. One that fails is reported and skipped.

    Args:
        names: Keys of `TRACKERS`.
        series: The run.
        evaluation: Of the validation images.
    """
    opened = [Guarded(name, lambda build=TRACKERS[name]: build(series)) for name in names]  # type: ignore[misc]
    return [Pictured(Trackers(opened), evaluation)] if opened else []
