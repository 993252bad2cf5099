"""Every registered downsampler keeps the contract and trains under mixed precision; both HWD backends are one."""

import copy

import pytest
import torch
from pytorch_wavelets import DWTForward
from torch import Tensor, nn

from rfdetr_hwd.layers.downsample import HWD
from rfdetr_hwd.layers.registry import DownsampleError, build_downsample, list_downsamples, register_downsample

CASES = [(name, {}) for name in list_downsamples()] + [("hwd", {"backend": "pytorch_wavelets"})]
NAMES = [name + "-" + "-".join(options.values()) if options else name for name, options in CASES]


class LiteratureHWD(nn.Module):
    """HWD as it is usually pasted into detectors: the library's module, concatenation, 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.transform = DWTForward(J=1, mode="zero", wave="haar")
        self.mix = nn.Conv2d(4 * in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        low, (details,) = self.transform(x)
        return self.mix(torch.cat([low, *details.unbind(2)], dim=1))


def train_under_bfloat16(module: nn.Module, channels: int = 8) -> tuple[Tensor, dict[str, Tensor]]:
    """Forward and backward behind a convolution, as inside a network; return the output and the gradients."""
    before = nn.Conv2d(channels, channels, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = module(before(torch.randn(2, channels, 6, 6)))
        loss = output.float().square().mean()
    loss.backward()
    parameters = [*module.named_parameters(), *before.named_parameters()]
    return output, {name: parameter.grad for name, parameter in parameters}


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
def test_contract(name: str, options: dict, size: tuple[int, int]) -> None:
    module = build_downsample(name, 3, 5, **options)
    expected = (2, 5, -(-size[0] // 2), -(-size[1] // 2))
    assert module(torch.randn(2, 3, *size)).shape == expected
    assert module(torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)).shape == expected
    assert module(torch.randn(0, 3, *size)).shape == (0, *expected[1:])
    assert not any("bias" in key for key in module.state_dict())
    assert module(torch.zeros(1, 3, *size)).abs().max() == 0


@pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)
def test_trains_under_mixed_precision(name: str, options: dict) -> None:
    output, gradients = train_under_bfloat16(build_downsample(name, 8, 8, **options))
    assert output.dtype == torch.bfloat16
    for key, gradient in gradients.items():
        assert gradient.dtype == torch.float32, key
        assert gradient.isfinite().all(), key
        assert gradient.abs().max() > 0, key


def test_the_literature_module_fails_there() -> None:
    with pytest.raises(RuntimeError, match=r"[Ii]nput type .* and weight type .* should be the same"):
        train_under_bfloat16(LiteratureHWD(8, 8))


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_backends_share_state_outputs_and_gradients(size: tuple[int, int]) -> None:
    fused = HWD(3, 5).double()
    library = HWD(3, 5, backend="pytorch_wavelets").double()
    assert list(library.state_dict()) == list(fused.state_dict()) == ["weight"]
    library.load_state_dict(fused.state_dict())
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    outputs = fused(x), library(x)
    direction = torch.randn_like(outputs[0])
    torch.testing.assert_close(*outputs, atol=1e-10, rtol=0)
    ours = torch.autograd.grad((outputs[0] * direction).sum(), [x, fused.weight])
    theirs = torch.autograd.grad((outputs[1] * direction).sum(), [x, library.weight])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=0)


def test_hwd_is_the_literature_module_without_its_bias() -> None:
    module, reference = HWD(3, 5), LiteratureHWD(3, 5)
    nn.init.zeros_(reference.mix.bias)
    reference.mix.weight.data.copy_(module.weight.data)
    x = torch.randn(2, 3, 6, 8)
    torch.testing.assert_close(module(x), reference(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", ["fused", "pytorch_wavelets"])
def test_gradients_are_right(backend: str) -> None:
    module = HWD(2, 3, backend=backend).double()
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


def test_copies_and_casts_keep_the_module_working() -> None:
    module = copy.deepcopy(HWD(3, 5, backend="pytorch_wavelets")).to(torch.bfloat16).float()
    assert module(torch.randn(1, 3, 4, 4)).dtype == torch.float32


def test_unknown_and_duplicate_names_list_the_choices() -> None:
    with pytest.raises(DownsampleError, match="unknown downsampler 'hdw'; known are .*hwd"):
        build_downsample("hdw", 3, 5)
    with pytest.raises(DownsampleError, match="registered already"):
        register_downsample("hwd")(HWD)
    with pytest.raises(DownsampleError, match="does not accept"):
        build_downsample("conv2x2", 3, 5, backend="fused")
    with pytest.raises(DownsampleError, match="fused and pytorch_wavelets"):
        build_downsample("hwd", 3, 5, backend="cuda")
