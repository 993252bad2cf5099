"""A checkpoint is whole or absent, damage is found and named, and loading runs no code."""

import errno
import hashlib
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from rfdetr_hwd.checkpoint import write as module
from rfdetr_hwd.checkpoint.read import (
    CheckpointError,
    list_checkpoints,
    newest_checkpoint,
    open_checkpoint,
)
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.checkpoint.write import record_in_manifest, remove_partial, save_checkpoint
from rfdetr_hwd.runtime.random_state import random_state, restore_random_state
from tests.unit.checkpoint.records import RECORD

WEIGHTS = {"raw": {"w": torch.arange(4.0)}, "ema": {"w": torch.ones(4)}}


def save(parent: Path, step: int) -> Path:
    training = {"random": random_state()}
    return save_checkpoint(parent / f"step-{step:08d}", TrainState(step), RECORD, WEIGHTS, training)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(save(tmp_path, 3))
    assert checkpoint.step == 3
    assert checkpoint.record == RECORD
    assert checkpoint.weights_kinds == ["ema", "raw"]
    for kind, state in WEIGHTS.items():
        assert torch.equal(checkpoint.weights(kind)["w"], state["w"])
    assert checkpoint.training().keys() == {"random"}
    digest = hashlib.sha256((checkpoint.path / "ema.safetensors").read_bytes()).hexdigest()
    assert checkpoint.weights_sha256("ema") == digest
    assert {p.name for p in checkpoint.path.iterdir()} == {
        "manifest.json",
        "record.json",
        "weights.safetensors",
        "ema.safetensors",
        "training.pt",
    }


@pytest.mark.parametrize(
    "name", ["record.json", "weights.safetensors", "ema.safetensors", "training.pt", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_every_damage_is_found_and_named(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path, 1)
    folder = save(tmp_path, 2)
    path = folder / name
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes({"truncate": content[: len(content) // 2], "flip": content, "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(folder)
    found, problems = newest_checkpoint(tmp_path)
    assert found.step == 1
    assert len(problems) == 1
    assert name in problems[0]


def test_without_a_whole_one_it_says_so(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "record.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint can be loaded from .*record.json is missing"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize("failing", ["rename", "fsync", "save_file"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_write_that_fails_leaves_the_old_one(
    tmp_path: Path, failing: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    rename = Path.rename

    def fail(path: object, *_: object, **__: object) -> object:
        if failing == "rename" and "partial" not in Path(str(path)).name:
            return rename(path, *_)  # setting the old one aside, and putting it back
        if failing == "rename" and Path(str(path)).name.endswith("-replaced"):
            return rename(path, *_)
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {
        "rename": (Path, "rename"),
        "fsync": (module, "flush"),
        "save_file": (module.safetensors.torch, "save_file"),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*target[failing], fail)
        with pytest.raises(CheckpointError, match=f"step-0000000{step}: No space left on device"):
            save(tmp_path, step)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert newest_checkpoint(tmp_path)[0].step == 1


def test_a_kill_inside_a_save_leaves_nothing_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(module.shutil, "rmtree", lambda *_, **__: None)  # a killed process cleans nothing
        patched.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 2)
    assert len(list(tmp_path.iterdir())) == 2
    assert list_checkpoints(tmp_path) == [tmp_path / "step-00000001"]
    remove_partial(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_kill_while_a_checkpoint_is_replaced_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, 1)
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path == folder:
            return rename(path, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module.shutil, "rmtree", lambda *_, **__: None)
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 1)
    assert list_checkpoints(tmp_path) == []
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert open_checkpoint(folder).step == 1


def test_nothing_of_a_save_goes_through_the_folder_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on another filesystem, where a rename is a copy, or full, or absent."""
    monkeypatch.setenv("TMPDIR", "/proc/nowhere")
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    assert open_checkpoint(save(tmp_path, 1)).step == 1


def test_figures_enter_by_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, 1)
    hashes = open_checkpoint(folder).files
    measured = TrainState(1, metrics={"ema/AP": 0.25, "raw/AP": 0.5}, metrics_step=1)
    with monkeypatch.context() as patched:
        patched.setattr(module.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(CheckpointError, match="No space left"):
            record_in_manifest(folder, measured)
    assert open_checkpoint(folder).state == TrainState(1)
    assert open_checkpoint(folder).better_weights == "ema"
    record_in_manifest(folder, measured)
    assert open_checkpoint(folder).state == measured
    assert open_checkpoint(folder).better_weights == "raw"
    assert open_checkpoint(folder).files == hashes
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_saving_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "record.json").write_text("corrupt")
    assert open_checkpoint(save(tmp_path, 1)).step == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_random_generators_come_back(tmp_path: Path) -> None:
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    state = open_checkpoint(save(tmp_path, 1)).training()["random"]
    expected = torch.rand(3), np.random.rand(3), random.random()
    restore_random_state(state)
    again = torch.rand(3), np.random.rand(3), random.random()
    assert torch.equal(expected[0], again[0])
    assert (expected[1] == again[1]).all()
    assert expected[2] == again[2]


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_a_malicious_training_state_runs_nothing(tmp_path: Path) -> None:
    folder = save_checkpoint(
        tmp_path / "step-00000001", TrainState(1), RECORD, WEIGHTS, {"x": Malicious(tmp_path / "ran")}
    )
    with pytest.raises(CheckpointError, match="cannot be loaded safely"):
        open_checkpoint(folder).training()
    assert not (tmp_path / "ran").exists()


def test_a_manifest_cannot_point_elsewhere(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    manifest = (folder / "manifest.json").read_text().replace('"record.json"', '"../record.json"')
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(CheckpointError, match="corrupt"):
        open_checkpoint(folder)


def test_a_newer_format_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or an older version would set the newest checkpoints aside, and go back in time."""
    save(tmp_path, 1)
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    newer = save(tmp_path, 2)
    with pytest.raises(CheckpointError, match=f"{newer.name} has the checkpoint format"):
        newest_checkpoint(tmp_path)


def test_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint of rfdetr-hwd"):
        open_checkpoint(tmp_path)
