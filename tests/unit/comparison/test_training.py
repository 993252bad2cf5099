"""Runs of an experiment are trained by a stand-in for the training command, which takes a moment each."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from rfdetr_hwd.checkpoint.lock import locked
from rfdetr_hwd.comparison import training
from rfdetr_hwd.comparison.training import train_runs
from rfdetr_hwd.config.experiment import PlannedRun
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.errors import Interrupted

STAND_IN = """
import os, pathlib, signal, sys, time, yaml
config = yaml.safe_load(open(sys.argv[1]))
run = pathlib.Path(config["output"]["dir"])
run.mkdir(exist_ok=True)
def stop(number, _):
    (run / "saved").touch()
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
(run / "device").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))
(run / "started").touch()
if config["train"]["seed"] == 13:
    sys.exit("error: no luck")
if config["train"]["seed"] == 99:
    time.sleep(60)
print("step 3/4  loss 1.0", flush=True)
"""


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "training_command", lambda config: [sys.executable, "-c", STAND_IN, str(config)])


def plan(config: Config, folder: Path, *seeds: int) -> list[PlannedRun]:
    runs = []
    for seed in seeds:
        output = config.output.model_copy(update={"dir": str(folder / "arm" / f"seed-{seed}")})
        train = config.train.model_copy(update={"seed": seed})
        runs.append(PlannedRun("arm", seed, config.model_copy(update={"output": output, "train": train})))
    return runs


def test_a_failed_run_does_not_stop_the_others(tiny_config: Config, tmp_path: Path) -> None:
    said: list[str] = []
    outcomes = train_runs(plan(tiny_config, tmp_path, 0, 13, 1), 1, [], said.append)
    assert [(outcome.run.seed, outcome.result, outcome.reason) for outcome in outcomes] == [
        (0, "finished", ""),
        (13, "failed", "no luck (exit status 1)"),
        (1, "finished", ""),
    ]
    assert "arm/seed-13: failed: no luck (exit status 1)" in said
    assert (tmp_path / "arm" / "seed-0.log").read_text() == "step 3/4  loss 1.0\n"


def test_workers_are_spread_over_devices(tiny_config: Config, tmp_path: Path) -> None:
    outcomes = train_runs(plan(tiny_config, tmp_path, 0, 1), 2, ["4", "7"], lambda _: None)
    assert {outcome.result for outcome in outcomes} == {"finished"}
    assert [(tmp_path / "arm" / f"seed-{seed}" / "device").read_text() for seed in (0, 1)] == ["4", "7"]


def test_a_run_in_training_is_left_to_its_process(tiny_config: Config, tmp_path: Path) -> None:
    runs = plan(tiny_config, tmp_path, 0, 1)
    runs[0].path.mkdir(parents=True)
    with locked(runs[0].path):
        outcomes = train_runs(runs, 1, [], lambda _: None)
    assert [(outcome.run.seed, outcome.result) for outcome in outcomes] == [(0, "elsewhere"), (1, "finished")]


def test_a_stopped_experiment_stops_its_runs_and_waits_for_them(tiny_config: Config, tmp_path: Path) -> None:
    runs = plan(tiny_config, tmp_path, 99)

    def stop_when_started() -> None:
        while not (runs[0].path / "started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    def leave(number: int, _: object) -> None:
        raise Interrupted(128 + number)

    before = signal.signal(signal.SIGUSR1, leave)
    threading.Thread(target=stop_when_started).start()
    try:
        with pytest.raises(Interrupted):
            train_runs(runs, 1, [], lambda _: None)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (runs[0].path / "saved").exists()
    with locked(runs[0].path.parent / ".claims" / "seed-99", timeout=0):
        pass
