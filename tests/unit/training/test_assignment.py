"""The assignment solver of a GPU step: it is here, it matches as SciPy does, and a run does without it if it must."""

import importlib
import logging
import sys

import numpy as np
import pytest
import torch
import torch_linear_assignment
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from rfdetr_hwd.cli import doctor
from rfdetr_hwd.training import assignment
from rfdetr_hwd.training.assignment import SolverError, prepare_solver, solver_problem
from tests.rehearsal.fake_device import fake_cuda

# After `rfdetr_hwd` has imported it, which puts back what the import of `rfdetr` changes.
_assignment = importlib.import_module("rfdetr.models._assignment")

Pair = tuple[list[int], list[int]]


def match_by_scipy(costs: list[torch.Tensor], sizes: list[int], groups: int) -> list[list[Pair]]:
    """Match each layer, image and group alone, and join the groups: queries counted over all groups."""
    matches: list[list[Pair]] = []
    for cost in costs:
        width, ends = len(cost) // groups, np.cumsum([0, *sizes])
        layer = []
        for start, end in zip(ends, ends[1:], strict=False):
            pairs = [linear_sum_assignment(cost[g * width : (g + 1) * width, start:end].numpy()) for g in range(groups)]
            queries = [q + g * width for g, (qs, _) in enumerate(pairs) for q in qs.tolist()]
            layer.append((queries, [box for _, boxes in pairs for box in boxes.tolist()]))
        matches.append(layer)
    return matches


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=4),
    width=st.integers(1, 6),
    groups=st.integers(1, 3),
    layers=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_the_solver_of_a_gpu_step_matches_as_scipy_does(
    sizes: list[int], width: int, groups: int, layers: int, seed: int
) -> None:
    """On the CPU it takes the same imports and the same road: padded, and by size where boxes outnumber queries."""
    generator = torch.Generator().manual_seed(seed)
    costs = [10 * torch.randn(width * groups, sum(sizes), generator=generator) for _ in range(layers)]
    found = _assignment.assign_many_bucketed(costs, sizes, groups)
    assert [[(q.tolist(), b.tolist()) for q, b in layer] for layer in found] == match_by_scipy(costs, sizes, groups)


@pytest.fixture
def solver(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The solver's package, put back afterwards."""
    monkeypatch.setattr(
        torch_linear_assignment, "batch_linear_assignment", torch_linear_assignment.batch_linear_assignment
    )
    return monkeypatch


def test_the_solver_runs_here() -> None:
    assert solver_problem(torch.device("cpu")) == ""


def test_a_solver_that_cannot_compile_is_a_problem(solver: pytest.MonkeyPatch) -> None:
    def without_compiler(cost: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable")  # Triton's words

    solver.setattr(torch_linear_assignment, "batch_linear_assignment", without_compiler)
    assert solver_problem(torch.device("cpu")).startswith("RuntimeError: Failed to find C compiler. Please specify")


def test_a_solver_with_a_problem_is_replaced_and_said(
    solver: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    used = []

    def on_host(cost: torch.Tensor) -> torch.Tensor:
        used.append(cost.device.type)
        return torch.tensor([[1, 0, -1]])

    solver.setattr(torch_linear_assignment, "batch_linear_assignment", on_host)
    solver.setattr(assignment, "solver_problem", lambda device: "RuntimeError: no compiler")
    with caplog.at_level(logging.WARNING):
        prepare_solver(torch.device("cuda"))
    assert [record.message.split(". ")[0] for record in caplog.records] == [
        "matching boxes on the CPU, which is slower: RuntimeError: no compiler"
    ]
    with fake_cuda():
        matches = torch_linear_assignment.batch_linear_assignment(torch.zeros(1, 3, 2, device="cuda"))
    assert (used, matches.device.type) == (["cpu"], "cuda")


def test_wrong_matches_are_a_problem(solver: pytest.MonkeyPatch) -> None:
    solver.setattr(torch_linear_assignment, "batch_linear_assignment", lambda cost: torch.tensor([[0, 1, -1]]))
    assert "expected [[1, 0, -1]]" in solver_problem(torch.device("cpu"))


def test_no_memory_left_is_no_matter_of_the_solver(solver: pytest.MonkeyPatch) -> None:
    def full(cost: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    solver.setattr(torch_linear_assignment, "batch_linear_assignment", full)
    with pytest.raises(torch.OutOfMemoryError):
        solver_problem(torch.device("cpu"))


@pytest.mark.parametrize("missing", ["torch_linear_assignment", "scipy.optimize", "triton"])
def test_what_a_gpu_step_imports_is_missed_by_name(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`doctor` imports what the step imports, so a package that is there and broken is found as well."""
    monkeypatch.delitem(sys.modules, "torch_linear_assignment._triton", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)  # its import fails
    with pytest.raises(doctor.DoctorError, match=missing):
        doctor.doctor()


def test_a_training_without_the_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_linear_assignment", None)
    with pytest.raises(SolverError, match="pip install 'torch-hungarian>=0.1.0rc0"):
        prepare_solver(torch.device("cuda"))
