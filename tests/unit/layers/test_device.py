"""On a GPU a forward pass takes nothing from the host: shown on a device without data, so that no GPU is needed."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import amp_context
from rfdetr_hwd.evaluation.operator_speed import LiteratureHWD
from rfdetr_hwd.layers.fixed import Fixed
from rfdetr_hwd.layers.hwd import DWT, HWD
from rfdetr_hwd.layers.linear import Blur
from rfdetr_hwd.layers.registry import build_downsample, list_downsamples
from rfdetr_hwd.layers.stem import DownsampledPatchEmbedding
from rfdetr_hwd.layers.wavelet import analysis_kernels
from tests.rehearsal.fake_device import Traffic, fake_cuda
from tests.unit.layers.test_contract import CASES, NAMES

STEMS = [name for name in list_downsamples() if name != "adown"]


def train_on_gpu(module: nn.Module, channels: int = 8, amp: bool = True) -> tuple[Tensor, Traffic]:
    """Forward and backward on a fake GPU; return the output and what passed between it and the host meanwhile."""
    with fake_cuda() as traffic:
        module = module.to("cuda")
        x = torch.randn(2, channels, 8, 12, device="cuda", requires_grad=True)
        traffic.clear()
        with amp_context(SimpleNamespace(amp=amp)):
            output = module(x)
        output.float().sum().backward()
        for tensor in (x, *module.parameters()):
            assert (tensor.grad.device.type, tensor.grad.dtype) == ("cuda", torch.float32)
    return output, traffic


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_no_downsampler_copies_from_the_host(name: str, options: dict) -> None:
    output, traffic = train_on_gpu(build_downsample(name, 8, 16, **options))
    assert (dict(traffic.copies), dict(traffic.reads)) == ({}, {})
    assert (output.device.type, output.dtype) == ("cuda", torch.bfloat16)


@pytest.mark.parametrize("name", STEMS)
def test_no_stem_copies_from_the_host(name: str) -> None:
    output, traffic = train_on_gpu(DownsampledPatchEmbedding(name, 3, 16, 2), channels=3)
    assert (dict(traffic.copies), dict(traffic.reads)) == ({}, {})
    assert (output.device.type, output.dtype) == ("cuda", torch.bfloat16)


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_weights_that_were_exchanged_are_followed_once(name: str, options: dict) -> None:
    module = build_downsample(name, 8, 16, **options)
    with fake_cuda() as traffic:
        weights = {key: torch.empty(value.shape, device="cuda") for key, value in module.named_parameters()}
        x = torch.empty(2, 8, 8, 12, device="cuda")
        torch.func.functional_call(module, weights, (x,))
        traffic.clear()
        torch.func.functional_call(module, weights, (x,))
    assert (dict(traffic.copies), dict(traffic.reads)) == ({}, {})


class Careless(nn.Module):
    """What the tests above are about."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.kernel, self.mix = kind, torch.ones(8, 1, 3, 3), nn.Conv2d(8, 16, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel if self.kind == "forgotten" else self.kernel.to(x)
        if self.kind == "read" and x.sum().item() > 0:
            x = -x
        return self.mix(nn.functional.conv2d(x, kernel, stride=2, padding=1, groups=8))


def test_what_is_careless_is_found() -> None:
    _, traffic = train_on_gpu(Careless("copied"))
    assert sum(traffic.copies.values()) == 1
    _, traffic = train_on_gpu(Careless("read"))
    assert sum(traffic.reads.values()) == 1
    with pytest.raises(RuntimeError, match="convolution.*expected all tensors to be on the same device"):
        train_on_gpu(Careless("forgotten"), amp=False)


def test_the_literature_module_fails_by_its_types() -> None:
    with pytest.raises(RuntimeError, match="input type and weight type should be the same"):
        train_on_gpu(LiteratureHWD(8, 8))


@pytest.mark.parametrize("module", [HWD(4, 6), DWT(4, 6, "db4"), Blur(4, 6)], ids=["hwd", "dwt", "blur"])
def test_a_cast_rounds_no_fixed_tensor_for_good(module: nn.Module) -> None:
    x = torch.randn(2, 4, 6, 8, dtype=torch.float64)
    weight = torch.randn_like(module.weight, dtype=torch.float64)
    twin = copy.deepcopy(module).double()
    module.bfloat16().double()
    for each in (module, twin):
        each.weight.data.copy_(weight)
    assert torch.equal(module(x), twin(x))


def test_a_fixed_tensor_follows_and_is_in_no_state_dict() -> None:
    exact = analysis_kernels("db4")
    fixed = nn.Sequential(Fixed(exact))
    assert torch.equal(fixed[0](torch.zeros(1)), exact.float())
    assert torch.equal(fixed.bfloat16()[0](torch.zeros(1).bfloat16()), exact.bfloat16())
    assert torch.equal(fixed.double()[0](torch.zeros(1).double()), exact)
    assert torch.equal(fixed[0](torch.zeros(1).half()), exact.half())  # not cast with the layer
    assert not [*fixed.state_dict(), *fixed.buffers(), *fixed.parameters()]


def test_a_fixed_tensor_that_inference_made_can_be_trained_with() -> None:
    fixed, weight = Fixed(analysis_kernels("db2")), torch.ones(1, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        fixed(weight)
    (fixed(weight) * weight).sum().backward()
    assert weight.grad is not None
