"""Several processes are one run: they stop together, survive each other's troubles, and may become more or fewer."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from torch.distributed.run import parse_args

from rfdetr_hwd.checkpoint.read import list_checkpoints, open_checkpoint
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.cli.evaluate import evaluate
from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes
from rfdetr_hwd.errors import Interrupted
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training.replay import stored_batches
from rfdetr_hwd.training.trackers import JsonLinesTracker, read_metrics
from tests.integration.runs import TORCHRUN, differing, finish, last_step

FRESH_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # as docs/training.md says for several nodes
FAULTY = Path(__file__).with_name("faulty.py")
PLAIN = ["model.dropout=0", "model.drop_path=0", "train.micro_batch=null", "train.epochs=1"]
SLOW_LR = ["train.lr=1e-6", "train.lr_encoder=1e-6"]  # or AdamW's first steps, all signs, would blow up rounding


def launch(fault: str, *arguments: object, restarts: int = 0) -> tuple[int, str, str]:
    """Run `rfdetr-hwd` on two ranks with a fault in one; return status, output, and a mark of all its processes."""
    mark = uuid.uuid4().hex
    process = launcher([*TORCHRUN, "--nproc-per-node=2", f"--max-restarts={restarts}"], fault, mark, *arguments)
    return *finish(process), mark


def launcher(command: list[str], fault: str, mark: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start torchrun with a faulty `rfdetr-hwd`."""
    return subprocess.Popen(
        [*command, str(FAULTY), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "FAULT": fault, "RUN_MARK": mark, **FRESH_STORE},
    )


def processes(mark: str) -> list[str]:
    """Return the processes that still run with a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"RUN_MARK={mark}".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


def losses(run: Path) -> list[float]:
    """Return the loss of every step and the norm of its gradient, which AdamW and the clip would hide."""
    records = [record for record in read_metrics(run / "metrics.jsonl") if "loss" in record]
    return [record[name] for record in records for name in ("loss", "grad_norm")]


@pytest.fixture(scope="module")
def single(config_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process without anything that draws: ranks draw for themselves."""
    run = tmp_path_factory.mktemp("single") / "run"
    train_command.run(config_file, None, [f"output.dir={run}", *PLAIN, *SLOW_LR])
    return run


def test_ranks_stop_together_and_may_become_fewer_and_more(
    config_file: Path, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rank is told: both stop after the same step. Two ranks, then one, then two are the run of one process."""
    run = tmp_path / "run"
    status, output, mark = launch("1:1:TERM", "train", "--config", config_file, f"output.dir={run}", *PLAIN, *SLOW_LR)
    assert status != 0
    assert f"torchrun --nproc-per-node=2 -m rfdetr_hwd train --resume {run}" in output
    assert processes(mark) == []
    assert last_step(run) == 2
    assert len(open_checkpoint(list_checkpoints(run / "checkpoints")[0]).training()["random"]) == 2
    log = JsonLinesTracker.log

    def told(self: JsonLinesTracker, step: int, values: dict[str, float]) -> None:
        log(self, step, values)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(JsonLinesTracker, "log", told)
        with pytest.raises(Interrupted):
            train_command.run(None, run, [])
    assert last_step(run) == 3
    status, output, _ = launch("9:0:none", "train", "--resume", run)
    assert status == 0, output
    assert losses(run) == pytest.approx(losses(single), rel=1e-5)
    assert [record["step"] for record in read_metrics(run / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6, 6]


@pytest.mark.slow
def test_a_killed_rank_is_started_again(config_file: Path, single: Path, tmp_path: Path) -> None:
    """`torchrun --max-restarts=1` starts both ranks again, and they resume from the newest checkpoint."""
    run = tmp_path / "run"
    arguments = [f"output.dir={run}", "output.save_every_steps=2", *PLAIN, *SLOW_LR]
    status, output, mark = launch("1:3:KILL", "train", "--config", config_file, *arguments, restarts=1)
    assert status == 0, output
    assert "resumed from" in output
    assert "at step 2, epoch 0" in output
    assert losses(run) == pytest.approx(losses(single), rel=1e-5)
    assert [record["step"] for record in read_metrics(run / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6, 6]
    assert processes(mark) == []


def test_what_is_printed_on_several_nodes_starts_as_many_processes(
    halfway: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"LOCAL_WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "node1"}
    for name, value in {**environment, "TORCHELASTIC_RUN_ID": "1", "TORCHELASTIC_MAX_RESTARTS": "3"}.items():
        monkeypatch.setenv(name, value)
    config = RunFolder.open(halfway).config([])
    launcher, *arguments = shlex.split(train_command._stopped(config).splitlines()[-1])
    parsed = parse_args(arguments)
    assert launcher == "torchrun"
    assert (parsed.nnodes, parsed.nproc_per_node, parsed.rdzv_endpoint) == ("2", "8", "node1")
    assert parsed.max_restarts == 3
    assert (parsed.training_script, parsed.module) == ("rfdetr_hwd", True)
    assert parsed.training_script_args == ["train", "--resume", str(halfway)]


@pytest.mark.slow
def test_a_killed_rank_of_another_node_is_started_again(config_file: Path, single: Path, tmp_path: Path) -> None:
    """Two launchers, of one rank each: the one whose rank died counts a restart, the other does not."""
    run, mark = tmp_path / "run", uuid.uuid4().hex
    with socket.socket() as free:
        free.bind(("localhost", 0))
        place = f"localhost:{free.getsockname()[1]}"
    node = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=1"]
    node += ["--rdzv-backend=c10d", f"--rdzv-endpoint={place}", f"--rdzv-id={mark}"]
    options = [f"output.dir={run}", "output.save_every_steps=2", *PLAIN, *SLOW_LR]
    arguments = ("train", "--config", config_file, "--auto-resume", *options)
    nodes = [launcher(node, fault, mark, *arguments) for fault in ("any:3:KILL", "9:0:none")]
    for process in nodes:
        status, output = finish(process)
        assert status == 0, output
    assert losses(run) == pytest.approx(losses(single), rel=1e-5)
    assert [record["step"] for record in read_metrics(run / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6, 6]
    assert processes(mark) == []


@pytest.mark.slow
def test_a_time_limit_is_not_a_fault_to_recover_from(config_file: Path, tmp_path: Path) -> None:
    """torchrun takes every status but 0 for a fault: the ranks that it starts again stop again."""
    run = tmp_path / "run"
    limited = [f"output.dir={run}", "train.max_hours=1e-9", *PLAIN]
    status, output, mark = launch("9:0:none", "train", "--config", config_file, *limited, restarts=1)
    assert status != 0
    assert processes(mark) == []
    assert f"torchrun --nproc-per-node=2 --max-restarts=1 -m rfdetr_hwd train --resume {run}" in output
    assert len(read_metrics(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []) < 6


@pytest.mark.slow
def test_two_ranks_resume_to_the_bit(config_file: Path, tmp_path: Path) -> None:
    """With dropout, which each rank draws for itself; and with the generators of the wrong rank it is another run."""
    arguments = ["train", "--config", config_file, "train.epochs=1"]
    whole, run, other = tmp_path / "whole", tmp_path / "run", tmp_path / "other"
    status, output, _ = launch("9:0:none", *arguments, f"output.dir={whole}")
    assert status == 0, output
    launch("1:2:TERM", *arguments, f"output.dir={run}")
    assert last_step(run) == 3
    shutil.copytree(run, other, symlinks=True)
    for folder, fault, is_same in ((run, "9:0:none", True), (other, "any:0:random", False)):
        status, output, _ = launch(fault, "train", "--resume", folder)
        assert status == 0, output
        assert (differing(folder, whole, 6) == []) == is_same


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_a_rank_dies_all_are_gone(config_file: Path, tmp_path: Path, rank: int) -> None:
    run = tmp_path / "run"
    arguments = [f"output.dir={run}", "data.workers=2", "output.save_every_steps=1", *PLAIN]
    status, output, mark = launch(f"{rank}:3:KILL:always", "train", "--config", config_file, *arguments)
    assert status != 0
    assert processes(mark) == []
    assert last_step(run) == 3
    if rank == 1:
        assert "lost the other ranks" in output


@pytest.mark.slow
def test_ranks_agree_on_a_smaller_micro_batch(config_file: Path, single: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    status, output, _ = launch("1:2:memory", "train", "--config", config_file, f"output.dir={run}", *PLAIN, *SLOW_LR)
    assert status == 0, output
    assert "out of memory at step 3; retrying with micro-batch 1 (same global batch)" in output
    assert open_checkpoint(list_checkpoints(run / "checkpoints")[0]).state.micro_batch == 1
    assert losses(run) == pytest.approx(losses(single), rel=1e-5)
    train_command.run(None, run, ["train.epochs=2"], accepted=["train.epochs"])  # a rank alone has other room
    assert open_checkpoint(list_checkpoints(run / "checkpoints")[0]).state.micro_batch == 0


@pytest.mark.slow
def test_a_rank_that_is_not_finite_stops_all_and_all_are_in_the_bundle(config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    status, output, mark = launch("1:2:nan", "train", "--config", config_file, f"output.dir={run}", *PLAIN)
    assert status != 0
    assert processes(mark) == []
    assert output.count("error: the loss or gradient of step 3 is non-finite") == 2
    bundle = open_checkpoint(run / "non-finite" / "step-00000003")
    ranks = stored_batches(bundle.inputs())
    assert [sum(len(batch.image_ids) for batch in batches) for batches in ranks] == [2, 2]
    assert [set(found.terms.values()) == {"nan"} for found in bundle.record.non_finite or ()] == [False, True]
    broken = [image_id for batch in ranks[1] for image_id in batch.image_ids]  # of the other rank no image is named
    assert output.count(f"is non-finite: images {broken}, loss terms") == 2
    assert list_checkpoints(run / "checkpoints") == []


@pytest.mark.slow
def test_a_rank_that_cannot_load_its_images_stops_all_with_their_work_saved(config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    status, output, mark = launch("1:3:loader", "train", "--config", config_file, f"output.dir={run}", *PLAIN)
    assert status != 0
    assert processes(mark) == []
    assert "error: a disk that is gone" in output
    assert "error: rank 0 stops: rank 1 failed, see its own error" in output
    assert "]: Traceback" not in output  # torchrun prints one of its own
    assert last_step(run) == 3


@pytest.mark.slow
def test_twenty_steps_of_two_ranks_are_those_of_one_process(config_file: Path, tmp_path: Path) -> None:
    options = [*PLAIN, *SLOW_LR, "train.epochs=4", "evaluation.every=4"]
    runs = [tmp_path / "one", tmp_path / "two"]
    train_command.run(config_file, None, [f"output.dir={runs[0]}", *options])
    status, output, _ = launch("9:0:none", "train", "--config", config_file, f"output.dir={runs[1]}", *options)
    assert status == 0, output
    assert len(losses(runs[0])) == 2 * 24  # loss and gradient norm
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=1e-5)
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_ranks_of_unequal_shares_are_one_process(config_file: Path, tmp_path: Path) -> None:
    """25 and 21 images for two ranks, in steps of 4, and one of each split cannot be read."""
    data = tmp_path / "data"
    write_shapes(data, ShapesSpec(train=25, valid=21, test=1, width=96, height=80, max_objects=2))
    for split in ("train", "valid"):
        (data / split / f"{split}_00003.jpg").write_bytes(b"not an image")
    options = [*PLAIN, *SLOW_LR, f"data.root={data}", "train.epochs=2"]
    runs = [tmp_path / "one", tmp_path / "two"]
    train_command.run(config_file, None, [f"output.dir={runs[0]}", *options])
    status, output, _ = launch("9:0:none", "train", "--config", config_file, f"output.dir={runs[1]}", *options)
    assert status == 0, output
    records = [read_metrics(run / "metrics.jsonl") for run in runs]
    assert [record["step"] for record in records[1]] == [1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 14]
    for one, two in zip(*records, strict=True):
        assert one.keys() == two.keys()
        assert [two[k] for k in one] == [v if v is None else pytest.approx(v, rel=1e-5) for v in one.values()]
    found = [{line for path in run.glob("quarantine*.jsonl") for line in path.open()} for run in runs]
    assert found[0] == found[1]
    assert len(found[0]) == 1
    evaluations = [tmp_path / "evaluation-one", tmp_path / "evaluation-two"]
    evaluate(runs[0], out=evaluations[0])
    status, output, _ = launch("9:0:none", "evaluate", "--weights", runs[0], "--out", evaluations[1])
    assert status == 0, output
    one, two = (
        sorted(json.loads((folder / "predictions.json").read_text()), key=lambda detection: detection["image_id"])
        for folder in evaluations
    )
    assert [detection["image_id"] for detection in two] == [detection["image_id"] for detection in one]
    assert len({detection["image_id"] for detection in one}) == 20
    assert [detection["score"] for detection in two] == pytest.approx([d["score"] for d in one], abs=1e-5)
