"""A run folder keeps the newest checkpoints and the best."""

from pathlib import Path

import torch

from rfdetr_hwd.checkpoint.read import list_checkpoints, open_checkpoint
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.runtime.random_state import random_state
from tests.unit.checkpoint.records import RECORD


def save(folder: RunFolder, step: int, best_step: int) -> list[int]:
    """Save a step and return the steps that are kept."""
    state = TrainState(step, best_step=best_step)
    folder.save(state, RECORD, {"raw": {"w": torch.ones(2)}}, {"random": [random_state()]}, keep_last=2)
    return sorted(open_checkpoint(path).step for path in list_checkpoints(folder.checkpoints))


def test_what_lies_elsewhere_is_left_alone(tmp_path: Path) -> None:
    folder, elsewhere = RunFolder(tmp_path / "run"), tmp_path / "step-00000001"
    folder.checkpoints.mkdir(parents=True)
    elsewhere.mkdir()
    folder.best.symlink_to(elsewhere, target_is_directory=True)
    folder.retire_best(TrainState(7))
    assert elsewhere.is_dir()
    assert not folder.best.is_symlink()


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    assert save(folder, 1, best_step=0) == [1]
    assert not folder.best.is_symlink()
    assert [save(folder, step, best_step=2) for step in (2, 3, 4, 5)] == [[1, 2], [2, 3], [2, 3, 4], [2, 4, 5]]
    assert open_checkpoint(folder.best).step == 2
    assert save(folder, 6, best_step=6) == [5, 6]
    assert open_checkpoint(folder.best).step == 6
    assert [save(folder, step, best_step=0) for step in (7, 8, 9)] == [[6, 7], [6, 7, 8], [6, 8, 9]]  # it was forgotten
    folder.retire_best(TrainState(9))
    assert save(folder, 9, best_step=0) == [8, 9]
    assert not folder.best.is_symlink()
    assert open_checkpoint(folder.checkpoints / "former-best-step-00000006").step == 6
    assert sorted(path.name for path in tmp_path.rglob("*partial*")) == []
