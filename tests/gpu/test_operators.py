"""What only a CUDA device can show of single operators: their types, their precision, and that nothing waits for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from rfdetr_hwd import amp
from rfdetr_hwd.cli.benchmark.op import op
from rfdetr_hwd.evaluation import operator_speed
from rfdetr_hwd.layers.hwd import HWD
from rfdetr_hwd.layers.registry import build_downsample
from rfdetr_hwd.layers.stem import DownsampledPatchEmbedding
from rfdetr_hwd.training.assignment import solver_problem
from rfdetr_hwd.training.optimizer import ExponentialMovingAverage
from tests.unit.layers.test_contract import CASES, NAMES
from tests.unit.layers.test_device import STEMS
from tests.unit.training.test_assignment import _assignment, match_by_scipy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
cases = pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)


def train_under_bfloat16(module: nn.Module, channels: int) -> None:
    x = torch.randn(2, channels, 24, 24, device="cuda", requires_grad=True)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        output = module(x)
    output.float().square().mean().backward()
    assert output.dtype == torch.bfloat16
    for tensor in (x, *module.parameters()):
        assert tensor.grad.dtype == torch.float32
        assert tensor.grad.isfinite().all()


@cases
def test_trains_under_bfloat16(name: str, options: dict) -> None:
    train_under_bfloat16(build_downsample(name, 64, 64, **options).cuda(), 64)


@pytest.mark.parametrize("name", STEMS)
def test_the_stem_trains_under_bfloat16(name: str) -> None:
    train_under_bfloat16(DownsampledPatchEmbedding(name, 3, 64, 2).cuda(), 3)


@cases
def test_a_pass_makes_nobody_wait(name: str, options: dict) -> None:
    """Torch raises where the host waits for the GPU: for a copy from its memory, or to read a number."""
    module = build_downsample(name, 16, 24, **options).cuda()
    x = torch.randn(2, 16, 12, 12, device="cuda", requires_grad=True)
    for mode in ("default", "error"):  # the libraries are loaded first
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode(mode)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            output = module(x)
        output.float().sum().backward()


def test_the_average_makes_nobody_wait() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).cuda()
    average = ExponentialMovingAverage(network, decay=0.9, tau=2.0)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    for step in (1, 2):
        average.update(network, step)


def test_the_benchmark_times_everything_as_cuda_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_speed, "SHAPES", ((16, 24, 12), (3, 12, 32)))
    op(batch=2, rounds=2, out=tmp_path)
    (path,) = tmp_path.glob("op-*-cuda.json")
    timings = json.loads(path.read_text())["timings"]
    names = {name for name, options in CASES if not options}
    names |= {"hwd (pytorch_wavelets)", "dwt (pytorch_wavelets)", operator_speed.LITERATURE}
    assert {timing["name"] for timing in timings if timing["shape"][1] == 16} == names
    assert all(timing["forward_ms"] > 0 and timing["training_ms"] > 0 for timing in timings)


def test_a_replayed_graph_computes_what_the_module_does() -> None:
    module, x = HWD(16, 24).cuda(), torch.randn(2, 16, 12, 12, device="cuda")
    kept: list[torch.Tensor] = []

    def forward() -> None:
        kept[:] = [module(x)]

    with torch.no_grad():
        replay = operator_speed._as_graph(forward, x.device)
        (captured,) = kept
        x.normal_()
        replay()
        torch.testing.assert_close(captured, module(x))


@pytest.mark.parametrize("exact", [True, False], ids=["ieee", "tf32"])
def test_float32_is_float32(exact: bool) -> None:
    """With TF32, the control, ten bits of mantissa are left."""
    if not exact and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this GPU has no TF32")
    amp.use_ieee_float32()
    if not exact:
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32"
    a, b = torch.randn(512, 512, device="cuda"), torch.randn(512, 512, device="cuda")
    x, kernel = torch.randn(2, 256, 24, 24, device="cuda"), torch.randn(256, 256, 3, 3, device="cuda")
    conv = nn.functional.conv2d
    for single, double in ((a @ b, a.double() @ b.double()), (conv(x, kernel), conv(x.double(), kernel.double()))):
        error = float((single - double).norm() / double.norm())
        assert (error < 1e-5) == exact, error
    amp.use_ieee_float32()


def test_backends_agree() -> None:
    amp.use_ieee_float32()
    fused, library = HWD(32, 48).cuda(), HWD(32, 48, backend="pytorch_wavelets").cuda()
    library.load_state_dict(fused.state_dict())
    x = torch.randn(2, 32, 25, 24, device="cuda")
    torch.testing.assert_close(fused(x), library(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sizes", [[2, 0, 3], [1, 1], [7, 5, 6, 2], [40, 12]])
def test_the_solver_matches_as_scipy_does(sizes: list[int]) -> None:
    """Also where boxes outnumber the queries of a group: the last case."""
    assert solver_problem(torch.device("cuda")) == ""
    generator = torch.Generator().manual_seed(len(sizes))
    costs = [10 * torch.randn(60, sum(sizes), generator=generator) for _ in range(3)]
    found = _assignment.assign_many_bucketed([cost.cuda() for cost in costs], sizes, 2)
    assert [[(q.tolist(), b.tolist()) for q, b in layer] for layer in found] == match_by_scipy(costs, sizes, 2)


FULL = """
import sys
import torch
from rfdetr_hwd.runtime.memory import is_out_of_memory

kept, size, x = [], 1 << 30, torch.ones(64, 64, device="cuda")
while size > 1 << 20:
    try:
        kept.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError:
        size >>= 1
try:
    print((x @ x).sum().item(), torch.nn.functional.conv2d(x[None, None], x[None, None, :3, :3]).sum().item())
except RuntimeError as error:
    print(type(error).__name__, str(error).splitlines()[0])
    sys.exit(0 if is_out_of_memory(error) else 1)
print("it fits nevertheless")
"""


def test_a_full_gpu_is_known_by_what_the_libraries_say() -> None:
    """A process of its own, whose libraries have made no handle before the memory is gone."""
    result = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, timeout=300)
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
