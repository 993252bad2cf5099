"""The rehearsal of CUDA leaves no branch open, and finds what is wrong."""

import torch
from torch import Tensor, nn

from tests.rehearsal.branches import reason_for
from tests.rehearsal.parts import Part, parts
from tests.rehearsal.reasons import REASONS
from tests.rehearsal.steps import build, forward_on_fake_device
from tests.rehearsal.table import rehearse


def test_every_part_runs_and_every_branch_is_run_or_explained() -> None:
    """With one downsampler in a forward pass of a whole model: layers/test_device.py has each of them alone."""
    rows, problems = rehearse(parts(["conv3x3"]))
    assert {name: problem for name, problem in problems.items() if problem} == {}
    assert [(row.site.path, row.site.function, row.site.text) for row in rows if row.state == "open"] == []
    assert {row.site.path.split("/")[0] for row in rows} == {"rfdetr_hwd", "rfdetr"}
    explained = [row.site for row in rows if row.state == "not here"]
    unused = [pattern for pattern in REASONS if not any(reason_for(site, {pattern: "fits"}) for site in explained)]
    assert unused == []


OFFSET = torch.ones(4)


class Forgetful(nn.Module):
    """Adds what stays on the CPU, wherever the module goes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + OFFSET


def test_a_tensor_that_is_left_on_the_cpu_and_what_no_part_runs_are_found() -> None:
    model = build()
    model.network.bbox_embed = Forgetful(model.network.bbox_embed)
    rows, problems = rehearse([Part("forward pass", "run", lambda: forward_on_fake_device(model))])
    assert "same device" in problems["forward pass"]
    states = {(row.site.path, row.state) for row in rows}
    assert {("rfdetr_hwd/amp.py", "run"), ("rfdetr_hwd/training/auto_batch.py", "open")} <= states
