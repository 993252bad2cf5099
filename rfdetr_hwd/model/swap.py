"""Replace the stride-2 convolutions of a site by a registered downsampler.

`projector`: the convolutions of the projector's P5 branch. Only the convolution inside upstream's `ConvX` is replaced;
its norm and activation stay, so a comparison between downsamplers compares one thing.
`stem`: the patch embedding, which becomes a downsampler and an embedding of patches half the size.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from rfdetr_hwd.errors import UserError
from rfdetr_hwd.layers.linear import LinearDownsample, draw_equal_kernel
from rfdetr_hwd.layers.registry import build_downsample
from rfdetr_hwd.layers.stem import DownsampledPatchEmbedding
from rfdetr_hwd.model.rfdetr import PATCH_EMBEDDING

STOCK = "conv3x3"
"""The downsampler that stock RF-DETR has; swapping the projector to it leaves the network as it is."""

FOLDED = "folded"
"""A downsampler that an export has folded into the convolution in its place; it replaces nothing, at no site."""

Site = Literal["projector", "stem"]


class SwapError(UserError):
    """A swap would replace nothing, or a downsampler has no equal start."""

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


def find_sites(network: nn.Module, site: Site) -> dict[str, nn.Conv2d]:
    """Return the convolutions of a site by module path."""
    if site == "stem":
        return {
            path: module
            for path, module in network.named_modules()
            if path == PATCH_EMBEDDING and isinstance(module, nn.Conv2d)
        }
    return {
        path: module
        for path, module in network.named_modules()
        if "projector.stages_sampling." in path and isinstance(module, nn.Conv2d) and module.stride == (2, 2)
    }


def swap_downsample(
    network: nn.Module,
    name: str,
    site: Site = "projector",
    init: Literal["default", "equal"] = "default",
    **options: Any,
) -> list[Replacement]:
    """Replace every convolution of a site, in place.

    Args:
        network: Stock RF-DETR network; for the stem, of twice the patch size that the bands are embedded with.
        name: Registered downsampler; `conv3x3` at the projector keeps the stock convolutions and replaces nothing.
        site: Where the convolutions are.
        init: `equal` starts `hwd`, `spd` and `conv2x2` from the same folded kernels, given the same random generator.
        options: The downsampler's own.

    Returns:
        The replacements, in module order.

    Raises:
        SwapError: The network has no such convolution, or the downsampler has no equal start.
        DownsampleError: The downsampler is unknown, refuses its options or breaks the contract.
    """
    if name == FOLDED or (name == STOCK and site == "projector"):
        return []
    # Find the convolutions.
    sites = find_sites(network, site)
    if not sites:
        raise SwapError(
            f"downsample.name={name} would replace nothing: the only stride-2 convolutions of the projector are in its "
            "P5 branch, and this model has none. Set model.levels=[P4,P5], or downsample.name=conv3x3 for stock RF-DETR"
        )
    # Replace each by a downsampler, from an equal start if asked.
    kernels = _draw_equal_kernels(sites) if init == "equal" else {}
    replacements = []
    for path, conv in sites.items():
        if site == "stem":
            module: nn.Module = DownsampledPatchEmbedding(
                name, conv.in_channels, conv.out_channels, conv.kernel_size[0] // 2, **options
            )
        else:
            module = build_downsample(name, conv.in_channels, conv.out_channels, **options)
            if init == "equal":
                _start_equal(module, name, kernels[path])
        replacements.append(_replace(network, path, conv, module))
    return replacements


def _draw_equal_kernels(sites: dict[str, nn.Conv2d]) -> dict[str, torch.Tensor]:
    """Draw the kernels before any downsampler draws, so that they do not depend on which one it is."""
    return {path: draw_equal_kernel(conv.in_channels, conv.out_channels) for path, conv in sites.items()}


def _start_equal(module: nn.Module, name: str, kernel: torch.Tensor) -> None:
    if not isinstance(module, LinearDownsample) or module.fit(kernel) < 1 - 1e-9:
        raise SwapError(
            f"downsample.init=equal is for hwd, spd and conv2x2. {name} cannot represent every 2x2 kernel. Set "
            " downsample.init=default"
        )


def _replace(network: nn.Module, path: str, conv: nn.Conv2d, module: nn.Module) -> Replacement:
    module.to(device=conv.weight.device, dtype=conv.weight.dtype)
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)
    return Replacement(path, (conv.in_channels, conv.out_channels), (_num_parameters(conv), _num_parameters(module)))


def _num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
