"""Experiment trackers in their real offline modes: values, pictures, one series over a resume; failing ones."""

import json
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.training.trackers import Tracker
from rfdetr_hwd.training.tracking import build, pictured
from rfdetr_hwd.training.tracking.build import TRACKERS, check_trackers, open_trackers
from rfdetr_hwd.training.tracking.guarded import Guarded
from rfdetr_hwd.training.tracking.pictured import draw_predictions
from rfdetr_hwd.training.tracking.series import Series
from tests.unit.training.evaluated import evaluated

PICTURE = PIL.Image.new("RGB", (12, 8), (255, 0, 0))
CONFIG = {"train": {"lr": 1e-4, "clip": 0.1}, "data": {"root": "cells"}}


def log_twice(name: str, folder: Path) -> None:
    """Log steps 1 to 3, stop, and resume from step 2 in another start."""
    for last_step, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        tracker = TRACKERS[name](Series(folder, last_step, CONFIG))
        for step in steps:
            tracker.log(step, {"loss": step / 2, "loss/box": 0.5, "ema/AP/a <b>": 0.25, "ema/AP": None})
            tracker.show(step, {"predictions/0": PICTURE})
        tracker.close()
        if name == "wandb":  # it names the files of a start by the second
            time.sleep(1 - time.time() % 1)


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log_twice("tensorboard", tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    assert sorted({event.step: event.value for event in events.Scalars("loss")}.items()) == [
        *((step, step / 2) for step in range(1, 5)),
    ]
    (*_, image) = events.Images("predictions/0")
    assert (image.width, image.height, image.step) == (12, 8, 4)


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    log_twice("wandb", tmp_path)
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    kept = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
    assert len(folders) == 2
    assert {folder.name.rpartition("-")[2] for folder in folders} == {kept}  # one run, when they are sent
    for folder in folders:
        assert next(folder.glob("*.wandb")).stat().st_size > 0
        assert len(list(folder.glob("files/media/images/predictions/*.png"))) >= 2


def test_mlflow_with_a_file_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    log_twice("mlflow", tmp_path)
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("rfdetr-hwd").experiment_id])
    assert run.info.run_id == json.loads((tmp_path / "trackers.json").read_text())["mlflow"]
    assert (run.info.status, run.data.params["train.lr"]) == ("FINISHED", "0.0001")
    history = client.get_metric_history(run.info.run_id, "loss")
    assert {metric.step: metric.value for metric in history} == {step: step / 2 for step in range(1, 5)}
    assert run.data.metrics == {"loss": 2.0, "loss.box": 0.5, "ema.AP.a _b_": 0.25}
    found = client.list_artifacts(run.info.run_id, "predictions/0")
    assert [Path(one.path).name for one in found] == [f"step-{step:08d}.png" for step in range(1, 5)]


def test_trackio_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # it is read by the import
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    log_twice("trackio", tmp_path)
    (name,) = SQLiteStorage.get_runs("rfdetr-hwd")
    assert name == f"{tmp_path.name}-{json.loads((tmp_path / 'trackers.json').read_text())['trackio']}"
    logged = SQLiteStorage.get_logs("rfdetr-hwd", name)
    assert {entry["step"]: entry["loss"] for entry in logged if "loss" in entry} == {s: s / 2 for s in range(1, 5)}
    assert list((tmp_path / "trackio").glob("**/*.png"))


class Failing:
    """Fails in the calls it is told to."""

    def __init__(self, *fails: str) -> None:
        self.fails, self.steps = set(fails), []

    def log(self, step: int, values: object) -> None:
        self._call("log")
        self.steps.append(step)

    def show(self, step: int, pictures: object) -> None:
        self._call("show")

    def close(self) -> None:
        self._call("close")

    def _call(self, name: str) -> None:
        if name in self.fails:
            raise OSError(f"{name}: no space left")


def test_a_failure_costs_lines_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tracker = Failing("log", "close")
    guarded = Guarded("mine", lambda: tracker)
    guarded.log(1, {"loss": 1.0})
    guarded.log(2, {"loss": 1.0})
    tracker.fails.discard("log")  # it recovers
    guarded.log(3, {"loss": 1.0})
    guarded.close()
    assert tracker.steps == [3]
    (message,) = caplog.messages
    assert message == "the tracker mine failed: log: no space left. The run continues without its lines"
    # One that fails again and again is left alone
    tracker.fails.add("log")
    for step in range(4, 10):
        guarded.log(step, {})
    tracker.fails.discard("log")
    guarded.log(10, {})
    assert tracker.steps == [3]


def test_a_tracker_that_does_not_open_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(series: Series) -> Tracker:
        raise RuntimeError("no server")

    works = Failing()
    monkeypatch.setattr(build, "TRACKERS", {"wandb": fail, "mlflow": lambda series: works})
    (tracker,) = open_trackers(["wandb", "mlflow"], Series(tmp_path, 0, {}), evaluated())
    tracker.log(1, {"loss": 1.0})
    assert works.steps == [1]
    assert "the tracker wandb failed: no server" in caplog.text
    assert open_trackers([], Series(tmp_path, 0, {}), evaluated()) == []


def test_a_missing_package_is_named_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None if name == "trackio" else name)
    check_trackers(["tensorboard"])
    with pytest.raises(ConfigError, match=r"trackio is not installed. Run pip install 'rfdetr-hwd\[trackio\]'"):
        check_trackers(["tensorboard", "trackio"])


def test_a_corrupt_file_of_ids_begins_new_series(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    series = Series(tmp_path, 0, {})
    first = series.settled_id("wandb")
    assert series.settled_id("wandb") == first
    (tmp_path / "trackers.json").write_text('{"wandb": 3}')
    assert series.settled_id("wandb") != first
    (tmp_path / "trackers.json").write_text("{")
    assert series.known_id("wandb") is None
    assert "trackers start new series" in caplog.text


def test_pictures_show_the_detections_of_the_better_weights() -> None:
    """Two images, of 40 x 20 pixels: a box that counts in the first, one of low confidence in the second."""
    values = {"ema/AP": 0.5, "raw/AP": 0.1, "ema/threshold": 0.6}
    pictures = draw_predictions(evaluated(), values)
    assert list(pictures) == ["predictions/0", "predictions/1"]
    assert [is_drawn_on(picture) for picture in pictures.values()] == [True, False]
    assert max(pictures["predictions/0"].size) <= 480
    pictures = draw_predictions(evaluated(), {"ema/AP": 0.5})  # without a threshold, at 0.3
    assert [is_drawn_on(picture) for picture in pictures.values()] == [True, True]
    pictures = draw_predictions(evaluated(), {"ema/AP": 0.1, "raw/AP": 0.5})
    assert [is_drawn_on(picture) for picture in pictures.values()] == [False, False]


def is_drawn_on(picture: PIL.Image.Image) -> bool:
    """Return whether a picture has more than one colour."""
    return len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 1


def test_pictures_follow_an_evaluation_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    shown: list[int] = []
    tracker = Failing()
    tracker.show = lambda step, pictures: shown.append(step)  # type: ignore[method-assign]
    watching = pictured.Pictured(tracker, evaluated())
    watching.log(1, {"loss": 1.0})
    watching.log(1, {"epoch": 1, "ema/AP": 0.5})
    assert (tracker.steps, shown) == ([1, 1], [1])
    monkeypatch.setattr(pictured, "draw_predictions", lambda *_: 1 / 0)
    watching.log(2, {"epoch": 2})
    watching.log(3, {"epoch": 3})
    assert (tracker.steps, shown) == ([1, 1, 2, 3], [1])
    assert caplog.text.count("no pictures for the trackers") == 1
