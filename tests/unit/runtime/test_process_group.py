"""A rank that fails alone holds nobody up, and is named by the others; what an environment says that cannot be."""

import logging
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import nn

from rfdetr_hwd.console import say
from rfdetr_hwd.errors import Interrupted, UserError
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime import process_group as joining
from rfdetr_hwd.runtime.distributed import RankError, rank
from rfdetr_hwd.runtime.process_group import find_device, process_group
from tests.unit.training.ranks import run_ranks

LAUNCH_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

MEETINGS: dict[str, Callable[[], object]] = {
    "largest": lambda: distributed.max_over_ranks(1),
    "sum": lambda: distributed.sum_over_ranks(torch.ones(2)),
    "gathering": lambda: distributed.gather_objects(1),
    "gathering everywhere": lambda: distributed.all_gather_objects(1),
    "broadcast": lambda: distributed.broadcast_object(1),
    "weights": lambda: distributed.broadcast_weights(nn.Linear(2, 2)),
    "gradients": lambda: distributed.agree(None),
    "waiting": distributed.barrier,
    "the end": lambda: None,
}


def failing(where: str, who: int, error: BaseException) -> Callable[[], None]:
    """Return the work of a rank: all meetings in turn, of which one rank does not come to one."""

    def body() -> None:
        for name, meet in MEETINGS.items():
            if name == where and rank() == who:
                raise error
            meet()

    return body


@pytest.mark.parametrize("where", MEETINGS)
def test_a_rank_that_fails_is_named_where_the_others_expect_it(where: str, tmp_path: Path) -> None:
    (status, said), (other_status, other) = run_ranks(2, failing(where, 1, UserError("a disk that is gone")), tmp_path)
    assert (other_status, other) == (1, "error: a disk that is gone\n")
    assert (status, said.splitlines()[-1]) == (1, "error: rank 0 stops: rank 1 failed, see its own error")
    assert "destroyed" not in said


def test_a_defect_has_a_traceback_and_the_others_have_none(tmp_path: Path) -> None:
    outcomes = run_ranks(3, failing("broadcast", 0, KeyError("of a defect")), tmp_path)
    assert [status for status, _ in outcomes] == [1, 1, 1]
    assert "Traceback" in outcomes[0][1]
    assert outcomes[0][1].rstrip().endswith("KeyError: 'of a defect'")
    for number in (1, 2):
        assert outcomes[number][1].splitlines()[-1] == f"error: rank {number} stops: rank 0 failed, see its own error"
        assert "Traceback" not in outcomes[number][1]


def test_a_request_to_stop_that_reaches_one_rank_alone_is_that_of_all(tmp_path: Path) -> None:
    outcomes = run_ranks(2, failing("weights", 1, Interrupted(143, "so it continues")), tmp_path)
    assert [status for status, _ in outcomes] == [143, 143]
    assert outcomes[0][1].splitlines()[-2].startswith("Stopped. Start again with:")


def test_a_rank_that_dies_is_missed(tmp_path: Path) -> None:
    def body() -> None:
        if rank() == 1:
            joining.os._exit(9)
        distributed.barrier()

    (status, said), (other, _) = run_ranks(2, body, tmp_path)
    assert (status, other) == (1, 9)
    assert said.splitlines()[-1].startswith("error: rank 0 lost the other ranks and stops: ")


def test_an_error_that_is_agreed_on_leaves_the_ranks_able_to_work_together(tmp_path: Path) -> None:
    def body() -> None:
        distributed.agree(None)
        try:
            distributed.agree(ValueError("of rank 1") if rank() == 1 else None)
        except distributed.SharedError as error:
            say(str(distributed.all_gather_objects(rank())))
            raise error.original from None

    (_, said), (_, other) = run_ranks(2, body, tmp_path)
    assert said.startswith("[0, 1]\n")
    assert said.endswith("error: rank 0 stops: rank 1 failed, see its own error\n")
    assert other.startswith("[0, 1]\n")
    assert other.endswith("ValueError: of rank 1\n")


def test_a_port_that_another_program_has_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("localhost", 0))
        other.listen()
        launched(monkeypatch, RANK="0", WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=other.getsockname()[1])
        with (
            pytest.raises(RankError, match=r"MASTER_PORT\): .*in use.* Another program uses this port"),
            process_group(),
        ):
            pass


@pytest.mark.parametrize(("number", "said"), [(0, "rank 1 did not join"), (1, "no answer")])
def test_ranks_that_do_not_come_are_not_awaited_for_ever(
    number: int, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Variables of a launcher that is long gone, all of them: what is waited for is said first."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(joining, "_JOINING", timedelta(seconds=0.3))
    launched(monkeypatch, RANK=number, WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=port)
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(RankError, match=f"rank {number} of 2 cannot join.*{said}.*unset RANK and WORLD_SIZE"),
        process_group(),
    ):
        pass
    assert caplog.messages == [
        f"rank {number} of 2, as RANK and WORLD_SIZE in the environment say: waiting for the others at localhost:{port}"
    ]


def test_a_variable_that_was_left_behind_makes_no_ranks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    launched(monkeypatch, WORLD_SIZE="2", LOCAL_RANK="7")
    with process_group() as device:
        assert device.index in (None, 0)
        assert distributed.world_size() == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "WORLD_SIZE=2 is set in the environment, but not RANK" in caplog.text
    assert "torchrun --nproc-per-node=2 -m rfdetr_hwd" in caplog.text


def test_more_processes_than_gpus_are_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(RankError, match="rank 2 of this machine has no GPU: 2 are visible"):
        find_device(2)


def test_ranks_with_and_without_a_gpu_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_: int) -> torch.device:
        return torch.device("cuda" if rank() == 0 else "cpu")

    monkeypatch.setattr(joining, "find_device", find)
    for status, said in run_ranks(2, lambda: say("together"), tmp_path):
        assert (status, said) == (1, "error: rank 1 of 2 has no GPU, but the others have one\n")


def launched(monkeypatch: pytest.MonkeyPatch, **variables: object) -> None:
    """Set the variables of a launcher, and no others."""
    for name in [name for name in os.environ if name in LAUNCH_VARIABLES or name.startswith("TORCHELASTIC")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
