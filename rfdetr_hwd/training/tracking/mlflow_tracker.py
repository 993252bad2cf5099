"""MLflow as a tracker (the `mlflow` extra)."""

import os
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rfdetr_hwd.training.trackers import Pictures, Values
from rfdetr_hwd.training.tracking.series import PROJECT, Series

_FORBIDDEN = re.compile(r"[^\w\-. :]")
_MAX_PARAM = 500
_BATCH = 100  # parameters of one call


class MlflowTracker:
    """Writes to the file store `mlruns` in the run directory, or to `MLFLOW_TRACKING_URI`.

    Args:
        series: The run. A resumed one continues its MLflow run.
    """

    def __init__(self, series: Series) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions want to be asked for it
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        store = (series.folder.resolve() / "mlruns").as_uri()
        self._client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", store))
        # Continue the run, or begin one with the configuration as its parameters.
        known = series.known_id("mlflow")
        if known is not None:
            self._run_id = known
            self._client.update_run(known, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(PROJECT)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
        name = series.folder.resolve().name
        self._run_id = self._client.create_run(experiment_id, run_name=name).info.run_id
        series.keep_id("mlflow", self._run_id)
        params = [Param(key, value) for key, value in _flat(series.config)]
        for start in range(0, len(params), _BATCH):
            self._client.log_batch(self._run_id, params=params[start : start + _BATCH])

    def log(self, step: int, values: Values) -> None:
        """Log the values, except for `None`.

        A slash in a name becomes a point, because `loss` cannot be a file and a directory of the store. Characters that
        MLflow refuses become `_`.
        """
        now = int(time.time() * 1000)
        known = {name.replace("/", "."): value for name, value in values.items() if value is not None}
        named = {_FORBIDDEN.sub("_", name): value for name, value in known.items()}
        metrics = [self._metric(name, value, now, step) for name, value in named.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def show(self, step: int, pictures: Pictures) -> None:
        """Log pictures as artifacts."""
        for name, picture in pictures.items():
            self._client.log_image(self._run_id, picture, f"{name}/step-{step:08d}.png")

    def close(self) -> None:
        """End the run until it is resumed."""
        self._client.set_terminated(self._run_id)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)[:_MAX_PARAM]
