"""Speed of the downsamplers against the stock convolution, measured alternately in one run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import amp_context
from rfdetr_hwd.console import say
from rfdetr_hwd.layers.cost import count_multiply_adds
from rfdetr_hwd.layers.registry import DownsampleError, build_downsample, list_downsamples
from rfdetr_hwd.runtime.timing import milliseconds, spread, time_in_turns

SHAPES = ((384, 384, 24), (384, 384, 44), (768, 768, 40), (3, 12, 512))
"""(input channels, output channels, height and width): P5 of Nano, of Large, of the deprecated Large, and the stem."""

STOCK = "conv3x3"
LITERATURE = "hwd as pasted"


@dataclass(frozen=True)
class Amp:
    """Precision of the benchmark: mixed on a GPU."""

    amp: bool = True


@dataclass(frozen=True)
class Timing:
    """Medians of one downsampler at one shape.

    Attributes:
        name: Downsampler, with its backend.
        shape: (batch, input channels, height, width).
        forward_ms: Forward pass in inference mode, milliseconds.
        training_ms: Forward and backward pass, milliseconds.
        forward_ratio: Against the stock convolution.
        training_ratio: Against the stock convolution.
        share_of_ceiling: Multiply-adds of the forward pass per second, as a fraction of the machine's matrix product.
    """

    name: str
    shape: tuple[int, int, int, int]
    forward_ms: float
    training_ms: float
    forward_ratio: float
    training_ratio: float
    share_of_ceiling: float


class LiteratureHWD(nn.Module):
    """HWD as it is usually copied: pytorch_wavelets' module, concatenation, 1x1 convolution. No norm, for comparison.

    It has no backward pass under mixed precision, so on a GPU it is timed in float32.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        from pytorch_wavelets import DWTForward

        self.transform = DWTForward(J=1, mode="zero", wave="haar")
        self.mix = nn.Conv2d(4 * in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, H / 2, W / 2)."""
        low, (details,) = self.transform(x)
        mixed: Tensor = self.mix(torch.cat([low, details[:, :, 0], details[:, :, 1], details[:, :, 2]], dim=1))
        return mixed


def measure_shape(
    shape: tuple[int, int, int], batch: int, rounds: int, device: torch.device, ceiling: float
) -> list[Timing]:
    """Time every downsampler that can be built at a shape, the stock convolution first.

    Args:
        shape: Input channels, output channels, height and width.
        batch: Batch size.
        rounds: How often each is timed.
        device: Where to time them.
        ceiling: Multiply-adds per second of a matrix product, from `measure_ceiling`.
    """
    # Build them all
    in_channels, out_channels, size = shape
    input_shape = (batch, in_channels, size, size)
    x = torch.randn(input_shape, device=device)
    passes = {}
    macs = {}
    for name, module in _modules(in_channels, out_channels):
        macs[name] = batch * count_multiply_adds(module, torch.zeros(1, in_channels, size, size))
        passes[name] = _passes(module.to(device), x, name)

    # Time them in turns
    functions = {(name, number): timed for name, pair in passes.items() for number, timed in enumerate(pair)}
    samples = time_in_turns(functions, device, rounds, _calls(device))

    # Compare the medians with the stock convolution's
    medians = {name: tuple(spread(samples[name, number]).median for number in (0, 1)) for name in passes}
    stock = medians[STOCK]
    return [
        Timing(name, input_shape, f, t, f / stock[0], t / stock[1], macs[name] / (f / 1e3) / ceiling)
        for name, (f, t) in medians.items()
    ]


def measure_ceiling(device: torch.device) -> float:
    """Return the multiply-adds per second of a large matrix product: bfloat16 on a GPU, float32 on a CPU."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1536, torch.float32)
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = min(milliseconds(lambda: a @ a, device, _calls(device)) for _ in range(15))
    return size**3 / (best / 1e3)


def _modules(in_channels: int, out_channels: int) -> Iterator[tuple[str, nn.Module]]:
    """Yield every registered downsampler and backend, and the literature's HWD."""
    for name in list_downsamples():
        try:
            yield name, build_downsample(name, in_channels, out_channels)
            if name in ("hwd", "dwt"):
                module = build_downsample(name, in_channels, out_channels, backend="pytorch_wavelets")
                yield f"{name} (pytorch_wavelets)", module
        except DownsampleError as error:
            say(f"skipped: {error}")
    yield LITERATURE, LiteratureHWD(in_channels, out_channels)


def _passes(module: nn.Module, x: Tensor, name: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return the forward pass in inference mode and the forward and backward pass, as functions to time."""
    args = Amp(name != LITERATURE)
    given = x.clone().requires_grad_()
    with torch.no_grad():
        direction = torch.randn_like(module(x))

    def forward() -> None:
        with torch.inference_mode(), amp_context(args):
            module(x)

    def train() -> None:
        given.grad = None
        module.zero_grad(set_to_none=True)
        with amp_context(args):
            output = module(given)
        output.backward(direction.to(output.dtype))

    def evaluated(function: Callable[[], None], mode: bool) -> Callable[[], None]:
        def run() -> None:
            module.train(mode)
            function()

        return run

    return (
        _as_graph(evaluated(forward, False), x.device),
        _as_graph(evaluated(train, True), x.device),
    )


def _as_graph(function: Callable[[], None], device: torch.device) -> Callable[[], Any]:
    """Return a function's replay as a CUDA graph, which times the GPU and not the launches; on a CPU, the function."""
    for _ in range(3):
        function()
    if device.type != "cuda":
        return function
    side_stream = torch.cuda.Stream()
    with _on_stream(side_stream):
        function()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side_stream):
        function()
    return graph.replay


@contextmanager
def _on_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


def _calls(device: torch.device) -> int:
    """Return the calls that one time is the mean of: on a GPU a downsampler takes microseconds."""
    return 20 if device.type == "cuda" else 1
