"""An error on one rank alone, in each place where ranks meet: it is on the screen, all are gone, and work is kept.

The process group is one whose destruction never returns while another rank waits, as with NCCL.
"""

from pathlib import Path

import pytest

from rfdetr_hwd.checkpoint.read import list_checkpoints, open_checkpoint
from tests.integration.test_ranks import launch, processes

DEFECT, DISK, ROOM = "RuntimeError: a defect", "a disk that is gone", "out of memory outside the training step"
CUDNN = "RuntimeError: CUDNN_STATUS_EXECUTION_FAILED"
OPTIMIZER = "error: out of memory in the middle of the optimizer step"

# place, rank, call of the function, what the rank says, step that is saved (0: none); one epoch has 6 steps of 2 passes
CASES = [
    ("reading", 0, 0, f"error: {DISK}", 0),
    ("reading", 1, 1, f"error: {DISK}", 0),
    ("probing", 0, 0, DEFECT, 0),
    ("building", 1, 0, DEFECT, 0),
    ("weights", 1, 0, ROOM, 0),
    ("making the folder", 0, 0, "No space left on device", 0),
    ("passes", 0, 2, CUDNN, 2),
    ("passes", 1, 2, CUDNN, 2),
    ("buckets", 1, 2, DEFECT, 0),
    ("optimizer", 0, 2, DEFECT, 0),
    ("optimizer", 1, 2, DEFECT, 0),
    ("metrics file", 0, 2, "No space left on device", 0),
    ("generators", 1, 0, DEFECT, 0),
    ("saving", 0, 0, "error: cannot write the checkpoint", 0),
    ("evaluating", 0, 0, CUDNN, 6),
    ("evaluating", 1, 1, CUDNN, 6),
    ("images to evaluate", 1, 0, f"error: {DISK}", 6),
    ("computing metrics", 0, 0, "ValueError: a defect", 6),
    ("recording metrics", 0, 0, "error: cannot write the manifest", 6),
    ("the end", 0, 0, DEFECT, 6),
    ("the end", 1, 0, DEFECT, 6),
]


def is_clean(output: str, rank: int, said: str) -> None:
    """The error is on the screen, the other rank names it, and nobody waited."""
    assert said in output
    assert f"error: rank {1 - rank} stops: rank {rank} failed, see its own error" in output
    assert "the process group is destroyed" not in output
    assert "forcefully exiting" not in output


def test_errors_on_one_rank_alone_cost_no_work(config_file: Path, tmp_path: Path) -> None:
    """One in training; started again by torchrun, one in the evaluation."""
    run = tmp_path / "run"
    options = [f"output.dir={run}", "train.epochs=1", "train.micro_batch=null"]
    faults = "1:2:in passes;0:0:in evaluating"
    status, output, mark = launch(faults, "train", "--config", config_file, *options, restarts=1)
    assert status != 0
    assert processes(mark) == []
    is_clean(output, 1, CUDNN)
    is_clean(output, 0, CUDNN)
    assert "resumed from" in output
    assert "at step 2, epoch 0" in output
    assert [open_checkpoint(path).step for path in list_checkpoints(run / "checkpoints")] == [6, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("place", "rank", "call", "said", "saved"), CASES)
def test_an_error_on_one_rank_alone(
    config_file: Path, tmp_path: Path, place: str, rank: int, call: int, said: str, saved: int
) -> None:
    run = tmp_path / "run"
    options = [f"output.dir={run}", "train.epochs=1", "train.micro_batch=null", "data.workers=1"]
    status, output, mark = launch(f"{rank}:{call}:in {place}", "train", "--config", config_file, *options)
    assert status != 0
    assert processes(mark) == []
    is_clean(output, rank, said)
    assert output.count("]: Traceback") == said.count("Error:")  # of the rank that failed, if it is a defect
    steps = [open_checkpoint(path).step for path in list_checkpoints(run / "checkpoints")]
    assert steps == ([saved] if saved else [])
