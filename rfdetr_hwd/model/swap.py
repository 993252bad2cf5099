"""Replace the projector's stride-2 convolutions by a registered downsampler.

Only the convolution inside upstream's `ConvX` is replaced. Its norm and activation stay, so a comparison between
downsamplers compares one thing.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from rfdetr_hwd.errors import UserError
from rfdetr_hwd.layers import downsample as _downsample  # noqa: F401 - registers the downsamplers
from rfdetr_hwd.layers.registry import build_downsample

STOCK = "conv3x3"
"""The downsampler that stock RF-DETR has; swapping to it leaves the network as it is."""


class SwapError(UserError):
    """A swap that would replace nothing."""

    exit_code = 2


@dataclass(frozen=True)
class Replacement:
    """One replaced convolution.

    Attributes:
        path: Dotted module path inside the network.
        channels: Input and output channels.
        parameters: Number of parameters before and after.
    """

    path: str
    channels: tuple[int, int]
    parameters: tuple[int, int]


def projector_sites(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the stride-2 convolutions of the projectors by module path."""
    return {
        path: module
        for path, module in network.named_modules()
        if "projector.stages_sampling." in path and isinstance(module, nn.Conv2d) and module.stride == (2, 2)
    }


def swap_downsample(network: nn.Module, name: str, **options: Any) -> list[Replacement]:
    """Replace every stride-2 convolution of the projectors, in place.

    Args:
        network: Stock RF-DETR network.
        name: Registered downsampler; `conv3x3` keeps the stock convolutions and replaces nothing.
        options: The downsampler's own.

    Returns:
        What was replaced, in module order.

    Raises:
        SwapError: The network has no such convolution.
        DownsampleError: The downsampler is unknown or refuses its options.
    """
    if name == STOCK:
        return []
    sites = projector_sites(network)
    if not sites:
        raise SwapError(
            f"downsample.name={name} would replace nothing: the only stride-2 convolutions of the projector are in its "
            "P5 branch, and this model has none. Set model.levels=[P4,P5], or downsample.name=conv3x3 for stock RF-DETR"
        )
    return [_replace(network, path, conv, name, options) for path, conv in sites.items()]


def _replace(network: nn.Module, path: str, conv: nn.Conv2d, name: str, options: dict[str, Any]) -> Replacement:
    module = build_downsample(name, conv.in_channels, conv.out_channels, **options)
    module.to(device=conv.weight.device, dtype=conv.weight.dtype)
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)
    return Replacement(path, (conv.in_channels, conv.out_channels), (_num_parameters(conv), _num_parameters(module)))


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
