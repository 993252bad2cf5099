"""The downsampling modules. Each keeps the contract of `rfdetr_hwd.layers.registry`."""

import functools
import warnings
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rfdetr_hwd.amp import full_precision
from rfdetr_hwd.layers.registry import DownsampleError, register_downsample
from rfdetr_hwd.layers.wavelet import conv2x2_stride2, fold_haar, pad_to_even


@register_downsample("conv3x3")
class Conv3x3(nn.Conv2d):
    """The stock RF-DETR projection: 3x3, stride 2, padding 1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, padding=1, bias=False)


@register_downsample("conv2x2")
class Conv2x2(nn.Conv2d):
    """Patchify: 2x2, stride 2 (Liu et al., "A ConvNet for the 2020s", CVPR 2022), zeros appended at odd sizes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        return conv2x2_stride2(x, self.weight)


@register_downsample("spd")
class SpaceToDepth(nn.Module):
    """Space-to-depth and a 1x1 convolution (Sunkara and Luo, "No More Strided Convolutions or Pooling", ECML 2022).

    The weight has shape (O, 4C, 1, 1) with channels as `torch.nn.PixelUnshuffle` orders them: `c * 4 + i * 2 + j`.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = _conv1x1_weight(out_channels, 4 * in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        x = pad_to_even(x)
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
        # F.pixel_unshuffle does the same, and leaves an empty batch as it is
        return F.conv2d(blocks.reshape(batch, 4 * channels, height // 2, width // 2), self.weight)


@register_downsample("hwd")
class HWD(nn.Module):
    """Haar wavelet downsampling: Haar DWT, bands concatenated on channels, 1x1 convolution.

    Xu et al., "Haar wavelet downsampling: A simple but effective downsampling module for semantic segmentation",
    Pattern Recognition 2023. Their bias, BatchNorm and ReLU are left out: the site keeps its own norm and activation.

    Both backends have the same parameters, state dict, outputs and gradients, and both run under mixed precision:
    `fused` convolves once with the folded 2x2 kernel, folded in the weight's own precision; `pytorch_wavelets` runs the
    library's transform in a full-precision island and the 1x1 convolution in the surrounding precision.

    Args:
        in_channels: C.
        out_channels: O.
        backend: `fused` or `pytorch_wavelets`.

    Attributes:
        weight: Shape (O, 4C, 1, 1), band-major (`band * C + c`), bands as in `rfdetr_hwd.layers.wavelet.HAAR_BANDS`.

    Raises:
        DownsampleError: The backend is unknown.

    Example:
        >>> HWD(8, 16)(torch.zeros(1, 8, 5, 6)).shape
        torch.Size([1, 16, 3, 3])
    """

    def __init__(
        self, in_channels: int, out_channels: int, backend: Literal["fused", "pytorch_wavelets"] = "fused"
    ) -> None:
        super().__init__()
        if backend not in ("fused", "pytorch_wavelets"):
            raise DownsampleError(f"hwd has the backends fused and pytorch_wavelets, not {backend!r}")
        self.backend = backend
        self.weight = _conv1x1_weight(out_channels, 4 * in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        if self.backend == "fused":
            return conv2x2_stride2(x, fold_haar(self.weight))
        return F.conv2d(_library_haar_bands(x), self.weight)

    def extra_repr(self) -> str:
        """Return the shape and the backend for `print`."""
        return f"{self.weight.shape[1] // 4}, {self.weight.shape[0]}, backend={self.backend}"


def _conv1x1_weight(out_channels: int, in_channels: int) -> nn.Parameter:
    weight = torch.empty(out_channels, in_channels, 1, 1)
    nn.init.kaiming_uniform_(weight, a=5**0.5)  # what torch.nn.Conv2d draws
    return nn.Parameter(weight)


def _library_haar_bands(x: Tensor) -> Tensor:
    """Return the band-major Haar bands of pytorch_wavelets, shape (N, 4C, ceil(H / 2), ceil(W / 2)), in full precision.

    Two things are needed under mixed precision, and either alone fails: autocast off, because the library's backward
    runs outside it, and the input cast, because switching autocast off does not cast. The library is called by its
    function rather than its module, so that no filter buffer enters a state dict or follows a module to bfloat16.
    """
    lowlevel, low_pass, high_pass = _library_haar()
    if not len(x):  # which the library cannot reshape
        return pad_to_even(x)[..., ::2, ::2].repeat(1, 4, 1, 1)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    low, high = (torch.tensor(taps, dtype=x.dtype, device=x.device) for taps in (low_pass, high_pass))
    filters = (low[None, None, :, None], high[None, None, :, None], low[None, None, None], high[None, None, None])
    with full_precision(x.device.type):
        approximation, details = lowlevel.AFB2D.apply(x, *filters, lowlevel.mode_to_int("zero"))  # (N, C, 3, H', W')
    return torch.cat([approximation, *details.unbind(2)], dim=1)


@functools.cache
def _library_haar() -> tuple[Any, list[float], list[float]]:
    """Import pytorch_wavelets when it is first needed; return its functions and the reversed Haar filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # its import of pkg_resources warns of pkg_resources
        import pywt
        from pytorch_wavelets.dwt import lowlevel
    wavelet = pywt.Wavelet("haar")
    return lowlevel, wavelet.dec_lo[::-1], wavelet.dec_hi[::-1]
