"""A run can be stopped at any step and continues to the bit: signals, kills, time limits, and what they leave."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rfdetr_hwd.checkpoint import write as checkpoint_write
from rfdetr_hwd.checkpoint.read import list_checkpoints, open_checkpoint
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.data import workers
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.loader import TrainLoader
from rfdetr_hwd.errors import Interrupted
from rfdetr_hwd.evaluation.coco import CocoMetric
from rfdetr_hwd.training import learner, setup
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.optimizer import Schedule
from rfdetr_hwd.training.trackers import JsonLinesTracker, read_metrics
from tests.integration.runs import differing, finish, last_step, read_until, start

LAST, MIDDLE = 12, 6


def is_the_same_run(run: Path, trained: Path) -> None:
    """The run ended as the uninterrupted one: weights, EMA, optimizer, random generators, state and every record."""
    assert differing(run, trained, LAST) == []
    assert read_metrics(run / "metrics.jsonl") == read_metrics(trained / "metrics.jsonl")
    assert (run / "best").resolve().name == (trained / "best").resolve().name
    assert [path.name for path in (run / "checkpoints").iterdir() if "step" not in path.name[:4]] == []


def once(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, act: Callable[[], None], when: object = None
) -> None:
    """Do something at the first call of a function whose first arguments satisfy a condition, then call it."""
    original = getattr(owner, name)
    done = []

    def replaced(*arguments: object, **options: object) -> object:
        if not done and (when is None or when(*arguments)):
            done.append(True)
            act()
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, replaced)


def at_step(step: int) -> Callable[..., bool]:
    return lambda _, number, values: number == step and "loss" in values


def at_call(number: int) -> Callable[..., bool]:
    calls = itertools.count(1)
    return lambda *_: next(calls) == number


MOMENTS = {
    "the wait for the fourth step": ((workers, "_next"), at_call(4), 9),
    "a step": ((JsonLinesTracker, "log"), at_step(9), 9),
    "the last step of an epoch": ((JsonLinesTracker, "log"), at_step(LAST), LAST),
    "the evaluation": ((CocoMetric, "update"), None, LAST),
    "the computation of the metrics": ((CocoMetric, "compute"), None, LAST),
    "a save": ((checkpoint_write, "_flush_files"), None, 8),
}


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("a step", signal.SIGTERM),
        pytest.param("a step", signal.SIGHUP, marks=pytest.mark.slow),
        ("the wait for the fourth step", signal.SIGINT),
        pytest.param("the last step of an epoch", signal.SIGINT, marks=pytest.mark.slow),
        ("the evaluation", signal.SIGUSR1),
        pytest.param("the computation of the metrics", signal.SIGTERM, marks=pytest.mark.slow),
        ("a save", signal.SIGTERM),
    ],
)
def test_a_signal_saves_and_the_run_goes_on_to_the_bit(
    halfway: Path, trained: Path, moment: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, when, expected = MOMENTS[moment]
    handler = signal.getsignal(number)
    saves: list[int] = []
    save = RunFolder.save

    def counted(folder: RunFolder, state: TrainState, *rest: object) -> Path:
        saves.append(state.step)
        return save(folder, state, *rest)

    with monkeypatch.context() as patched:
        once(patched, *target, lambda: signal.raise_signal(number), when)
        patched.setattr(RunFolder, "save", counted)
        with pytest.raises(Interrupted) as caught:
            train_command.run(None, halfway, ["output.save_every_steps=8"])
    assert caught.value.code == 128 + number
    assert caught.value.advice.splitlines()[-1] == f"rfdetr-hwd train --resume {halfway}"
    assert signal.getsignal(number) == handler
    assert last_step(halfway) == expected
    assert saves == sorted(set(saves)), "a step was saved twice"
    train_command.run(None, halfway, [])
    is_the_same_run(halfway, trained)


@pytest.mark.slow
def test_a_loader_that_fails_costs_nothing(halfway: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise DatasetError("a disk that is gone")

    with monkeypatch.context() as patched:
        once(patched, workers, "_next", fail, at_call(4))
        with pytest.raises(DatasetError, match="a disk that is gone") as caught:
            train_command.run(None, halfway, [])
    assert caught.value.__notes__ == [f"resume with: rfdetr-hwd train --resume {halfway}"]
    assert last_step(halfway) == 9
    train_command.run(None, halfway, [])
    is_the_same_run(halfway, trained)


@pytest.mark.slow
def test_a_time_limit_ends_the_same_way(halfway: Path, trained: Path) -> None:
    with pytest.raises(Interrupted) as caught:
        train_command.run(None, halfway, ["train.max_hours=1e-9"])
    assert caught.value.code == 124
    assert last_step(halfway) == MIDDLE  # nothing was to be saved
    train_command.run(None, halfway, ["train.max_hours=1", "data.workers=2"])
    is_the_same_run(halfway, trained)


@pytest.mark.parametrize(
    "phase", ["read_data", "build_network", "build_train_loader", "_create_folder", "build_learner"]
)
def test_a_signal_while_starting_breaks_nothing(
    config_file: Path, tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    once(monkeypatch, setup, phase, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted) as caught:
        train_command.run(config_file, None, [f"output.dir={run}"])
    assert caught.value.code == 143
    if run.exists():
        assert caught.value.advice.splitlines()[-1] == f"rfdetr-hwd train --resume {run}"
        assert RunFolder.open(run).config([]).output.dir == str(run)
    else:
        assert caught.value.advice == ""


@pytest.mark.parametrize(
    ("verb", "number", "status"),
    [
        ("evaluate", signal.SIGTERM, 143),
        ("predict", signal.SIGINT, 130),
        pytest.param("evaluate", signal.SIGUSR1, 138, marks=pytest.mark.slow),
        pytest.param("predict", signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_other_verbs_leave_with_the_status_of_the_signal(verb: str, number: int, status: int) -> None:
    program = (
        "import signal, sys\nfrom rfdetr_hwd.cli import app\n"
        f"class Late:\n    def find_spec(self, name, *_):\n        name != 'torch' or signal.raise_signal({number:d})\n"
        "sys.meta_path.insert(0, Late())\n"
        f"sys.argv[1:] = {[verb, '--weights', 'runs/x', *(['p.jpg'] if verb == 'predict' else [])]}\napp.main()\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (status, "")
    assert result.stdout.splitlines()[-1].startswith(f"rfdetr-hwd {verb} --weights runs/x")


def test_a_terminated_command_says_how_to_go_on(halfway: Path) -> None:
    """A signal to the whole process group, data loader workers included, as a scheduler sends it."""
    process = start("train", "--resume", halfway, "data.workers=2")
    read_until(process, "step 7/12")
    os.killpg(process.pid, signal.SIGTERM)
    status, rest = finish(process)
    assert status == 143, rest
    assert rest.splitlines()[-1] == f"rfdetr-hwd train --resume {halfway}"
    assert "Traceback" not in rest
    reached = last_step(halfway)
    assert reached >= 7
    logged = [record["step"] for record in read_metrics(halfway / "metrics.jsonl") if "loss" in record]
    assert logged == list(range(1, reached + 1))


@pytest.mark.slow
def test_a_console_that_is_gone_costs_nothing(halfway: Path, trained: Path) -> None:
    """A pipe whose reader has ended: `| head`, `| tee` in a terminal that was closed."""
    process = start("train", "--resume", halfway)
    read_until(process, "step 7/12")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=300) == 0
    is_the_same_run(halfway, trained)


def kill_and_compare(run: Path, trained: Path, draw: random.Random) -> None:
    """Kill a real process anywhere, resume in another one, and compare with the run that was never interrupted."""
    process = start("train", "--resume", run, f"data.workers={draw.choice([0, 2])}", "output.save_every_steps=1")
    read_until(process, f"step {draw.randrange(MIDDLE + 1, LAST)}/{LAST}")
    try:
        process.wait(timeout=draw.random() * 2)  # somewhere in the steps, the saves or the evaluation
    except subprocess.TimeoutExpired:
        process.kill()
    finish(process)
    for path in list_checkpoints(run / "checkpoints"):
        open_checkpoint(path)
    for line in (run / "metrics.jsonl").read_text().splitlines()[:-1]:
        assert line.startswith("{")
        assert line.endswith("}")
    process = start("train", "--resume", run, f"data.workers={draw.choice([0, 2])}")
    status, output = finish(process)
    assert status == 0, output
    is_the_same_run(run, trained)


def test_a_killed_run_goes_on_to_the_bit(halfway: Path, trained: Path) -> None:
    kill_and_compare(halfway, trained, random.Random())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_fifty_killed_runs_go_on_to_the_bit(halfway: Path, trained: Path, seed: int) -> None:
    kill_and_compare(halfway, trained, random.Random(seed))
    shutil.rmtree(halfway)


@pytest.mark.slow
def test_a_killed_run_with_strong_augmentation_goes_on_to_the_bit(config_file: Path, tmp_path: Path) -> None:
    """Mosaics and mixup in both epochs, of images that are drawn by class: a resumed run draws the same ones."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    parts = ("preset=strong", "mosaic=0.7", "mixup=0.5", "unmixed_epochs=0")
    options = [*(f"data.augment.{part}" for part in parts), "data.sampling=class_balanced"]
    train_command.run(config_file, None, [f"output.dir={whole}", *options])
    shutil.copytree(whole, run, symlinks=True)
    shutil.rmtree(run / "checkpoints" / f"step-{LAST:08d}")
    kill_and_compare(run, whole, random.Random(1))


def leave_out(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break one part of what a resumed run restores."""
    restore, epoch = Learner.restore, TrainLoader.epoch

    def without(self: Learner, state: TrainState, training: dict, weights: object, seed: int) -> None:
        restore(self, state, training, weights, seed)
        if part == "optimizer":
            self.optimizer.state.clear()
        if part == "ema":
            self.ema.module.load_state_dict(self.network.state_dict())

    monkeypatch.setattr(Learner, "restore", without)
    if part == "schedule":
        factor = Schedule.factor
        monkeypatch.setattr(Schedule, "factor", lambda self, step: factor(self, step - MIDDLE))
    if part == "random":
        monkeypatch.setattr(learner, "restore_random_state", lambda _: None)
    if part == "sampler":
        monkeypatch.setattr(TrainLoader, "epoch", lambda self, number, first=0: epoch(self, 0, first))


@pytest.fixture(scope="module")
def in_the_middle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in the middle of its second epoch, after step 9."""
    run = tmp_path_factory.mktemp("middle") / "run"
    shutil.copytree(trained, run, symlinks=True, copy_function=os.link)
    shutil.rmtree(run / "checkpoints" / f"step-{LAST:08d}")
    with pytest.MonkeyPatch.context() as patched:
        once(patched, JsonLinesTracker, "log", lambda: signal.raise_signal(signal.SIGTERM), at_step(9))
        with pytest.raises(Interrupted):
            train_command.run(None, run, [])
    return run


@pytest.mark.parametrize("part", ["nothing", "random", "sampler", "ema", "optimizer", "schedule"])
def test_the_test_of_exactness_can_fail(
    in_the_middle: Path, trained: Path, tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: a resume in the middle of an epoch that leaves a part out ends in another state."""
    run = tmp_path / "run"
    shutil.copytree(in_the_middle, run, symlinks=True, copy_function=os.link)
    assert open_checkpoint(run / "checkpoints" / "step-00000009").state.step_in_epoch == 3
    leave_out(part, monkeypatch)
    train_command.run(None, run, [])
    names = differing(run, trained, LAST)
    assert bool(names) == (part != "nothing"), names
