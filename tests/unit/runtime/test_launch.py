"""What the environment says of a launcher: ranks, one process, or something that cannot be."""

import re

import pytest

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.runtime.launch import Place, find_place, is_first, launcher, leftover, num_restarts

WHOLE = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
SLURM = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "7"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*WHOLE, "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)


def given(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (WHOLE, Place(1, 4, 1, "node1", 29500)),
        ({**WHOLE, "RANK": " 0 ", "LOCAL_RANK": ""}, Place(0, 4, 0, "node1", 29500)),
        ({**WHOLE, **SLURM}, Place(1, 4, 1, "node1", 29500)),
    ],
)
def test_a_launcher_gives_a_place(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: Place) -> None:
    given(monkeypatch, variables)
    assert find_place() == expected
    assert leftover() == ""
    assert is_first() == (expected.rank == 0)


@pytest.mark.parametrize(
    ("variables", "is_said"),
    [
        ({}, False),
        ({"WORLD_SIZE": "2"}, True),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "5", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}, True),
        ({"WORLD_SIZE": "1", "RANK": "0"}, False),
        ({"WORLD_SIZE": "1", "RANK": "3"}, False),
        ({"WORLD_SIZE": "", "RANK": "0"}, False),
        ({"RANK": "3"}, False),
        ({"LOCAL_RANK": "x", "RANK": "y", "MASTER_PORT": "z"}, False),
        (SLURM, False),
    ],
)
def test_what_was_left_behind_makes_no_ranks(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_said: bool
) -> None:
    given(monkeypatch, variables)
    assert find_place() is None
    assert is_first()
    assert bool(leftover()) == is_said


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two in the environment is not an integer of at least 1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 in the environment is not an integer of at least 1"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE=-1 in the environment"),
        ({"WORLD_SIZE": "２"}, "WORLD_SIZE=２ in the environment"),
        ({**WHOLE, "RANK": "first"}, "RANK=first in the environment is not an integer of at least 0"),
        ({**WHOLE, "RANK": "4"}, "RANK=4 with WORLD_SIZE=4 in the environment is out of range"),
        ({**WHOLE, "LOCAL_RANK": "0.0"}, "LOCAL_RANK=0.0 in the environment"),
        ({**WHOLE, "MASTER_PORT": "node1:29500"}, "MASTER_PORT=node1:29500 in the environment"),
        ({**WHOLE, "MASTER_PORT": "65536"}, "MASTER_PORT=65536"),
        ({**WHOLE, "MASTER_ADDR": ""}, "RANK=1 and WORLD_SIZE=4 are set in the environment, but not MASTER_ADDR"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "not MASTER_ADDR and MASTER_PORT"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    given(monkeypatch, variables)
    with pytest.raises(ConfigError, match=rf"{re.escape(message)}.*torchrun.*For a single process: unset .*WORLD_SIZE"):
        find_place()
    assert is_first()


def test_what_torchrun_left_behind_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {"LOCAL_WORLD_SIZE": "8", "GROUP_WORLD_SIZE": "two", "TORCHELASTIC_RESTART_COUNT": "2"})
    assert launcher() == "rfdetr-hwd"
    assert num_restarts() == 0
    given(monkeypatch, {"TORCHELASTIC_RUN_ID": "7", "GROUP_WORLD_SIZE": "1", "TORCHELASTIC_MAX_RESTARTS": "0"})
    assert launcher() == "torchrun --nproc-per-node=8 -m rfdetr_hwd"
    assert num_restarts() == 2
