"""The two backends are one: outputs, gradients, state; and they are PyWavelets' transform."""

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rfdetr_hwd.evaluation.operator_speed import LiteratureHWD
from rfdetr_hwd.layers.hwd import DWT, HWD
from rfdetr_hwd.layers.linear import Blur
from rfdetr_hwd.layers.nonlinear import GatedHWD
from rfdetr_hwd.layers.wavelet import analysis_kernels

WAVELETS = ["haar", "db2", "db4", "sym4", "coif1", "bior2.2", "bior4.4", "rbio1.3", "db10"]


def pair(kind: type[nn.Module], *arguments: object, **options: object) -> tuple[nn.Module, nn.Module]:
    fused = kind(*arguments, **options).double()
    library = kind(*arguments, backend="pytorch_wavelets", **options).double()
    library.load_state_dict(fused.state_dict())
    return fused, library


def assert_equal_with_gradients(fused: nn.Module, library: nn.Module, x: torch.Tensor) -> None:
    x.requires_grad_()
    outputs = fused(x), library(x)
    direction = torch.randn_like(outputs[0])
    torch.testing.assert_close(*outputs, atol=1e-10, rtol=0)
    ours = torch.autograd.grad((outputs[0] * direction).sum(), [x, fused.weight])
    theirs = torch.autograd.grad((outputs[1] * direction).sum(), [x, library.weight])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 2)])
def test_hwd_backends_are_one(size: tuple[int, int]) -> None:
    assert_equal_with_gradients(*pair(HWD, 3, 5), torch.randn(2, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize("size", [(24, 16), (8, 12), (4, 2)])
def test_dwt_backends_are_one(wavelet: str, size: tuple[int, int]) -> None:
    assert_equal_with_gradients(*pair(DWT, 2, 3, wavelet=wavelet), torch.randn(2, 2, *size, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(WAVELETS), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_dwt_is_pywavelets(wavelet: str, half_height: int, half_width: int, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(2 * half_height, 2 * half_width))
    approximation, details = pywt.dwt2(image, wavelet, mode="periodization")
    module = DWT(1, 4, wavelet).double()
    module.weight.data.copy_(torch.eye(4)[..., None, None])
    with torch.no_grad():
        bands = module(torch.from_numpy(image)[None, None])[0].numpy()
    np.testing.assert_allclose(bands, [approximation, *details], atol=1e-10)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym4", "coif1"])
def test_orthogonal_transforms_keep_energy_and_invert(wavelet: str) -> None:
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    module = DWT(1, 4, wavelet).double()
    module.weight.data.copy_(torch.eye(4)[..., None, None])
    bands = module(x)
    torch.testing.assert_close(bands.square().sum(), x.square().sum())
    inverse = torch.autograd.functional.vjp(module, x, bands)[1]  # the transpose of an orthogonal map is its inverse
    torch.testing.assert_close(inverse, x, atol=1e-10, rtol=0)


def test_haar_is_a_special_case_of_the_longer_wavelets() -> None:
    hwd, dwt = HWD(3, 5), DWT(3, 5, "haar")
    dwt.load_state_dict(hwd.state_dict())
    x = torch.randn(2, 3, 6, 8)
    torch.testing.assert_close(dwt(x), hwd(x), atol=1e-6, rtol=0)
    assert analysis_kernels("haar").shape == (4, 2, 2)


def test_hwd_is_the_literature_module_without_its_bias() -> None:
    module, reference = HWD(3, 5), LiteratureHWD(3, 5)
    nn.init.zeros_(reference.mix.bias)
    reference.mix.weight.data.copy_(module.weight.data)
    x = torch.randn(2, 3, 6, 8)
    torch.testing.assert_close(module(x), reference(x), atol=1e-6, rtol=0)


def test_the_gate_starts_open() -> None:
    gated, hwd = GatedHWD(3, 5), HWD(3, 5)
    hwd.weight.data.copy_(gated.weight.data)
    x = torch.randn(2, 3, 5, 8)
    torch.testing.assert_close(gated(x), hwd(x), atol=1e-6, rtol=0)
    gated.gate.data.fill_(1.0)
    assert not torch.allclose(gated(x), hwd(x))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [HWD, DWT, Blur], ids=["hwd", "dwt", "blur"])
def test_compiles_whole_and_exports(kind: type[nn.Module]) -> None:
    """Before any pass in Python, which could prepare what a compiler must not see."""
    module, x = kind(4, 6), torch.randn(2, 4, 6, 8)
    exported = torch.export.export(module, (x,)).module()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    with torch.inference_mode():
        inferred = compiled(x)
    trained = compiled(x)
    trained.sum().backward()
    for output in (inferred, trained, exported(x)):
        torch.testing.assert_close(output, module(x), atol=1e-6, rtol=1e-5)


def test_inference_follows_the_weight() -> None:
    """The folded kernel may be kept while nothing changes, and not longer."""
    module = HWD(4, 6).eval()
    x = torch.randn(1, 4, 6, 6)
    with torch.inference_mode():
        first = module(x)
        torch.testing.assert_close(module(x), first)
    with torch.no_grad():
        module.weight.mul_(2)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), 2 * first)
    module.load_state_dict({"weight": module.weight.detach() / 2})
    with torch.inference_mode():
        torch.testing.assert_close(module(x), first)
    module.weight = nn.Parameter(module.weight.detach() * 3)
    with torch.inference_mode():
        torch.testing.assert_close(module(x), 3 * first)
    torch.testing.assert_close(module.double()(x.double()).float(), 3 * first)
    y = module.float()(x)
    y.sum().backward()
    assert module.weight.grad is not None


def test_rounding_in_bfloat16_is_that_of_one_convolution() -> None:
    """The folded kernel is rounded once: closer to the truth than the transform and the 1x1 each in bfloat16."""
    torch.manual_seed(1)
    module = HWD(64, 64)
    x = torch.randn(4, 64, 24, 24)
    truth = module.double()(x.double())
    module.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = module(x)
        kernel = module.fold()[..., 1:, 1:].float()
        once = F.conv2d(x, kernel, stride=2)
    error = (fused.double() - truth).norm() / truth.norm()
    floor = (once.double() - truth).norm() / truth.norm()
    assert error < 1.05 * floor
    assert error < 0.004
