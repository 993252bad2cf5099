"""The rehearsal of CUDA leaves no branch open, and finds what is wrong."""

from collections import Counter
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.rehearsal.branches import reason_for
from tests.rehearsal.parts import Part, parts
from tests.rehearsal.reasons import REASONS
from tests.rehearsal.steps import build
from tests.rehearsal.table import Row, rehearse
from tests.rehearsal.without_data import step_without_data


@pytest.fixture(scope="module")
def outcome() -> tuple[list[Row], dict[str, str]]:
    """Of every part; forward passes of whole models with one downsampler: layers/test_device.py has every one alone."""
    return rehearse(parts(["conv3x3"]))


def test_every_part_runs(outcome: tuple[list[Row], dict[str, str]]) -> None:
    _, problems = outcome
    assert {name: problem for name, problem in problems.items() if problem} == {}


def test_every_branch_is_run_or_explained(outcome: tuple[list[Row], dict[str, str]]) -> None:
    rows, _ = outcome
    assert [(row.site.path, row.site.function, row.site.text) for row in rows if row.state == "open"] == []
    assert {row.site.path.split("/")[0] for row in rows} == {"rfdetr_hwd", "rfdetr"}


def test_no_reason_is_left_over(outcome: tuple[list[Row], dict[str, str]]) -> None:
    rows, _ = outcome
    excused = [row.site for row in rows if row.state == "not here"]
    unused = [pattern for pattern in REASONS if not any(reason_for(site, {pattern: "fits"}) for site in excused)]
    assert unused == []


def test_what_no_part_runs_is_open() -> None:
    rows, problems = rehearse([])
    assert problems == {}
    states = Counter((row.site.path.split("/")[0], row.state) for row in rows)
    assert states["rfdetr_hwd", "open"] == sum(row.site.path.startswith("rfdetr_hwd/") for row in rows) > 50


OFFSET = torch.ones(4)


class Forgetful(nn.Module):
    """Adds what stays on the CPU, wherever the module goes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + OFFSET


def test_a_tensor_that_is_left_on_the_cpu_is_found() -> None:
    model = build()
    model.network.bbox_embed = Forgetful(model.network.bbox_embed)
    _, problems = rehearse([Part("step", "run", partial(step_without_data, model))])
    assert "same device" in problems["step"]
