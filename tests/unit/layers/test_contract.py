"""Every registered downsampler keeps the contract, trains under mixed precision, and copies."""

import copy
import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rfdetr_hwd.evaluation.operator_speed import LiteratureHWD
from rfdetr_hwd.layers.registry import DownsampleError, build_downsample, list_downsamples, register_downsample

LIBRARY = {"backend": "pytorch_wavelets"}
CASES = [(name, {}) for name in list_downsamples()] + [("hwd", LIBRARY), ("dwt", LIBRARY)]
NAMES = [name + "-" + "-".join(options.values()) if options else name for name, options in CASES]

cases = pytest.mark.parametrize(("name", "options"), CASES, ids=NAMES)


def train_under(dtype: torch.dtype, module: nn.Module, channels: int = 8) -> tuple[Tensor, dict[str, Tensor]]:
    """Forward and backward behind a convolution, as inside a network; return the output and the gradients."""
    before = nn.Conv2d(channels, channels, 1)
    with torch.autocast("cpu", dtype=dtype):
        output = module(before(torch.randn(2, channels, 6, 6)))
        loss = output.float().square().mean()
    loss.backward()
    parameters = [*module.named_parameters(), *before.named_parameters()]
    return output, {name: parameter.grad for name, parameter in parameters}


def test_every_row_of_the_specification_is_registered() -> None:
    assert set(list_downsamples()) >= {
        *("conv3x3", "conv2x2", "hwd", "spd", "haar_ll", "avgpool", "blur", "dwt", "maxpool", "adown", "gated")
    }


@cases
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (2, 2), (1, 1)])
def test_contract(name: str, options: dict, size: tuple[int, int]) -> None:
    module = build_downsample(name, 4, 6, **options)
    if name == "dwt" and size[0] % 2:
        with pytest.raises(ValueError, match="even height and width"):
            module(torch.randn(2, 4, *size))
        return
    expected = (2, 6, -(-size[0] // 2), -(-size[1] // 2))
    x = torch.randn(2, 4, *size)
    plain = module(x)
    assert plain.shape == expected
    torch.testing.assert_close(module(x.contiguous(memory_format=torch.channels_last)), plain, atol=1e-5, rtol=1e-5)
    assert module(torch.randn(0, 4, *size)).shape == (0, *expected[1:])
    assert not any("bias" in key for key in module.state_dict())
    assert module(torch.zeros(1, 4, *size)).abs().max() == 0


@cases
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_trains_under_mixed_precision(name: str, options: dict, dtype: torch.dtype) -> None:
    output, gradients = train_under(dtype, build_downsample(name, 8, 8, **options))
    assert output.dtype == dtype
    for key, gradient in gradients.items():
        assert gradient.dtype == torch.float32, key
        assert gradient.isfinite().all(), key
        assert gradient.abs().max() > 0, key


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_the_literature_module_fails_there(dtype: torch.dtype) -> None:
    """By its types, in whatever words a CPU's kernels have for that; in one type it works."""
    module = LiteratureHWD(8, 8)
    module(torch.randn(2, 8, 6, 6)).sum().backward()
    with pytest.raises(RuntimeError, match=r"(?i)type .*(float|half)"):
        train_under(dtype, module)


@cases
def test_copies_and_pickles(name: str, options: dict) -> None:
    module = build_downsample(name, 4, 6, **options).eval()
    x = torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        expected = module(x)
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            torch.testing.assert_close(twin(x), expected)
            for parameter in twin.parameters():
                parameter.mul_(2)
            assert not torch.allclose(twin(x), expected)
        torch.testing.assert_close(module(x), expected)


@cases
def test_state_dicts_of_casts_hold_nothing_but_parameters(name: str, options: dict) -> None:
    module = build_downsample(name, 4, 6, **options)
    assert set(module.state_dict()) == {key for key, _ in module.named_parameters()}
    assert module.to(torch.bfloat16).float()(torch.randn(1, 4, 4, 4)).dtype == torch.float32


@cases
def test_gradients_are_right(name: str, options: dict) -> None:
    module = build_downsample(name, 2, 2, **options).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


@cases
def test_inputs_can_be_differentiated_twice_where_the_library_allows(name: str, options: dict) -> None:
    if options:
        pytest.skip("pytorch_wavelets' own backward pass cannot be differentiated")
    module = build_downsample(name, 2, 2).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(module, (x,))


MODULE = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, in_channels, out_channels, scale=1.0):
        super().__init__()
        self.mix = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.scale = scale
    def forward(self, x):
        return self.mix(nn.functional.avg_pool2d(x, 2, ceil_mode=True)) * self.scale

class Floors(Mine):
    def forward(self, x):
        return self.mix(nn.functional.avg_pool2d(x, 2))

class FloorsOnPurpose(Floors):
    needs_even_sizes = True

class Fails(Mine):
    def forward(self, x):
        raise RuntimeError("a bug of mine")

def not_a_class(in_channels, out_channels):
    return None
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_downsamplers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_downsamplers"
    sys.modules.pop("my_downsamplers", None)


def test_a_users_class_is_built_and_checked(own_module: str) -> None:
    assert build_downsample(f"{own_module}:Mine", 4, 6, scale=2.0).scale == 2.0
    assert build_downsample(f"{own_module}:FloorsOnPurpose", 4, 6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_downsamplers:Floors", r"breaks the contract.*\(1, 4, 5, 7\) gives \(1, 6, 2, 3\), not \(1, 6, 3, 4\)"),
        ("my_downsamplers:Fails", "fails on an input of shape .*a bug of mine"),
        ("my_downsamplers:Nothing", "has no 'Nothing'"),
        ("my_downsamplers:not_a_class", "is not a class derived from torch.nn.Module"),
        ("os:system", "is not a class derived from torch.nn.Module"),
        ("no_such_module:X", "cannot be imported.*PYTHONPATH"),
        ("hdw", "unknown downsampler 'hdw'. Did you mean hwd"),
    ],
)
@pytest.mark.usefixtures("own_module")
def test_what_breaks_is_named(name: str, message: str) -> None:
    with pytest.raises(DownsampleError, match=message):
        build_downsample(name, 4, 6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("conv2x2", {"backend": "fused"}, "backend.*. Its options are none"),
        ("hwd", {"backend": "cuda"}, "fused and pytorch_wavelets"),
        ("dwt", {"wavelet": "haar9"}, "not a discrete wavelet"),
        ("dwt", {"mode": "symmetric"}, "wrong gradients"),
        ("dwt", {"mode": "zero"}, "more than half the size"),
        ("dwt", {"mode": "mirror"}, "is unknown"),
    ],
)
def test_bad_options_are_named(name: str, options: dict, message: str) -> None:
    with pytest.raises(DownsampleError, match=message):
        build_downsample(name, 4, 6, **options)
    with pytest.raises(DownsampleError, match="must be even"):
        build_downsample("adown", 3, 5)


def test_a_name_is_taken_once() -> None:
    with pytest.raises(DownsampleError, match="registered already, as HWD"):
        register_downsample("hwd")(nn.Identity)
