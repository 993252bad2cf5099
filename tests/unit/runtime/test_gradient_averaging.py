"""Gradients are averaged while the last backward pass runs; whatever becomes of a pass, no rank waits for ever."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rfdetr_hwd.runtime.gradient_averaging import GradientAverager

RANKS = 2
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def outcomes() -> list[dict[str, Any]]:
    """What each rank says of each scenario in `averaging_ranks.py`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(RANKS):
        variables = {"RANK": rank, "WORLD_SIZE": RANKS, "LOCAL_RANK": rank, "OMP_NUM_THREADS": 1}
        variables |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        command = [sys.executable, "-m", "tests.unit.runtime.averaging_ranks"]
        output = subprocess.PIPE
        processes.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, text=True))
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * RANKS
    return [json.loads(output.splitlines()[-1]) for output in outputs]


@pytest.mark.parametrize("name", ["two passes", "two passes, then messages"])
def test_gradients_of_two_passes_are_averaged(outcomes: list[dict[str, Any]], name: str) -> None:
    """A gradient that one rank lacks is zero there; one that all lack stays missing."""
    expected = [[6.0] * 3, [-2.0] * 2, [8.0] * 4, None, [10.0] * 2]
    assert [outcome[name] for outcome in outcomes] == [[2, expected]] * RANKS


def test_complete_buckets_are_sent_before_the_pass_ends(outcomes: list[dict[str, Any]]) -> None:
    """In the last pass alone: what is sent before is not complete."""
    assert [outcome["early messages"] for outcome in outcomes] == [[0, True, [[2.0] * 4] * 2]] * RANKS


@pytest.mark.parametrize("name", ["a pass that fails", "a message that fails"])
def test_a_rank_that_fails_sends_all_the_same(outcomes: list[dict[str, Any]], name: str) -> None:
    expected = [[6.0] * 3, [7.0] * 2, [8.0] * 4, [9.0], [10.0] * 2]
    said = [[[0, 1], [0, 0]], expected]
    assert [outcome[name] for outcome in outcomes] == [said] * RANKS


def test_no_room_for_a_gradient_that_only_another_rank_has(outcomes: list[dict[str, Any]]) -> None:
    assert [outcome["no room"] for outcome in outcomes] == ["no room, 1"] * RANKS


def test_a_gradient_that_comes_twice_is_an_error(outcomes: list[dict[str, Any]]) -> None:
    """It would be averaged in part."""
    assert all("added to after it was complete" in outcome["twice"] for outcome in outcomes)


def test_one_rank_needs_no_messages() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    averager = GradientAverager([parameter])
    with averager.sending():
        averager.begin_last_pass()
        parameter.sum().backward()
    averager.average(is_same_use=True)
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [1.0, 1.0]
