"""Wavelet downsampling: HWD (Haar) and its sibling for longer wavelets, each with two backends."""

import functools
import warnings
from typing import Any, Literal

import pywt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rfdetr_hwd.amp import full_precision
from rfdetr_hwd.layers.fixed import Fixed
from rfdetr_hwd.layers.linear import LinearDownsample, draw_weight
from rfdetr_hwd.layers.registry import DownsampleError, register_downsample
from rfdetr_hwd.layers.wavelet import (
    analysis_kernels,
    blocks_to_channels,
    embed_2x2_in_3x3,
    fold_haar,
    haar_kernels,
    pad_circular,
    pad_to_even,
)

Backend = Literal["fused", "pytorch_wavelets"]


@register_downsample("hwd", mathematics="Haar transform, 1x1", reference="Xu et al., Pattern Recognition 2023")
class HWD(LinearDownsample):
    """Haar wavelet downsampling: Haar DWT, bands concatenated on channels, 1x1 convolution.

    Xu et al., "Haar wavelet downsampling: A simple but effective downsampling module for semantic segmentation",
    Pattern Recognition 2023. Their bias, BatchNorm and ReLU are not used: the site keeps its own norm and activation.

    Both backends have the same parameters, state dict, outputs and gradients, and both run under mixed precision:
    `fused` is one convolution with the folded 2x2 kernel, folded in the weight's own precision; `pytorch_wavelets` runs
    the library's transform in a full-precision island and the 1x1 convolution in the surrounding precision.

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

    basis = embed_2x2_in_3x3(haar_kernels(torch.float64))

    def __init__(self, in_channels: int, out_channels: int, backend: Backend = "fused") -> None:
        super().__init__()
        self.backend = _check_backend("hwd", backend)
        self._kernels = Fixed(haar_kernels(torch.float64))
        self._filters = Fixed(_library_filters("haar"))
        self.weight = draw_weight(out_channels, 4 * in_channels, 1, 1)

    def coefficients(self) -> Tensor:
        """Return the weight as (O, 4, C)."""
        return self.weight.view(len(self.weight), 4, -1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        if self.backend == "fused":
            return F.conv2d(blocks_to_channels(x), fold_haar(self.weight, self._kernels(self.weight)))
        return F.conv2d(_library_bands(pad_to_even(x), self._filters, "zero").to(self.weight.dtype), self.weight)

    def extra_repr(self) -> str:
        """Return the shape and the backend for `print`."""
        return f"{self.weight.shape[1] // 4}, {self.weight.shape[0]}, backend={self.backend}"


@register_downsample("dwt", mathematics="wavelet transform (option wavelet), circular, 1x1", reference="PyWavelets")
class DWT(nn.Module):
    """HWD with another discrete wavelet, periodized: circular at the borders, at even sizes.

    The transform and the 1x1 convolution are one circular convolution with an L x L kernel, L the filter length.
    `fused` computes that convolution. It does not fit into the stock 3x3.

    Args:
        in_channels: C.
        out_channels: O.
        wavelet: A discrete wavelet of PyWavelets: `db2`, `sym4`, `bior2.2`, ...
        mode: `periodization`; every other mode of pytorch_wavelets is refused with the reason.
        backend: `fused` or `pytorch_wavelets`.

    Attributes:
        weight: Shape (O, 4C, 1, 1), band-major, bands in PyWavelets' order LL, cH, cV, cD.

    Raises:
        DownsampleError: Unknown wavelet or backend, or an unsupported mode.
    """

    needs_even_sizes = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        wavelet: str = "db2",
        mode: str = "periodization",
        backend: Backend = "fused",
    ) -> None:
        super().__init__()
        if wavelet not in pywt.wavelist(kind="discrete"):
            raise DownsampleError(
                f"dwt: {wavelet!r} is not a discrete wavelet of PyWavelets (for example db2, sym4, bior2.2)"
            )
        if mode != "periodization":
            raise DownsampleError(f"dwt: mode {mode!r} {_why_not(mode)}; use periodization")
        self.wavelet = wavelet
        self.backend = _check_backend("dwt", backend)
        self._kernels = Fixed(analysis_kernels(wavelet))
        self._filters = Fixed(_library_filters(wavelet))
        self.weight = draw_weight(out_channels, 4 * in_channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, H / 2, W / 2).

        Raises:
            ValueError: H or W is odd.
        """
        if x.shape[-2] % 2 or x.shape[-1] % 2:
            raise ValueError(f"dwt needs an even height and width, not {tuple(x.shape[-2:])}")
        if self.backend == "pytorch_wavelets":
            return F.conv2d(_library_bands(x, self._filters, "periodization").to(self.weight.dtype), self.weight)
        kernels = self._kernels(self.weight)  # (4, L, L)
        with full_precision(x.device.type):  # a matrix product would be lowered
            folded = torch.einsum("obc,bij->ocij", self.weight.view(len(self.weight), 4, -1), kernels)
        return F.conv2d(pad_circular(x, kernels.shape[-1] // 2 - 1), folded, stride=2)

    def extra_repr(self) -> str:
        """Return the shape, the wavelet and the backend for `print`."""
        return f"{self.weight.shape[1] // 4}, {self.weight.shape[0]}, wavelet={self.wavelet}, backend={self.backend}"


def _check_backend(name: str, backend: Backend) -> Backend:
    if backend not in ("fused", "pytorch_wavelets"):
        raise DownsampleError(f"{name} has the backends fused and pytorch_wavelets, not {backend!r}")
    return backend


def _why_not(mode: str) -> str:
    """Return why a border mode is refused (checked against finite differences with pytorch_wavelets 1.3)."""
    if mode == "zero":
        return "gives more than half the size with filters longer than 2 (Haar with zeros is `hwd`)"
    if mode in ("symmetric", "reflect", "periodic", "constant", "replicate"):
        return "has wrong gradients in pytorch_wavelets with filters longer than 2"
    return "is unknown"


def _library_bands(x: Tensor, filters: Fixed, mode: str) -> Tensor:
    """Return the band-major bands of pytorch_wavelets, shape (N, 4C, H / 2, W / 2), in full precision.

    Two things are needed under mixed precision, and either alone fails: switching it off, because the library's
    backward runs outside it, and casting the input, because switching off does not cast. The library is called by its
    function rather than its module, so that no filter buffer enters a state dict or follows a module to bfloat16.
    """
    if not len(x):  # the library cannot reshape an empty batch
        return x[..., ::2, ::2].repeat(1, 4, 1, 1)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    height, width = x.shape[-2:]
    low, high = filters(x)
    if mode == "periodization" and min(height, width) < len(low):
        # The library wraps around once only; a signal repeated beyond the filter's length is the same periodic signal.
        x = x.repeat(1, 1, -(-len(low) // height), -(-len(low) // width))
    taps = low[None, None, :, None], high[None, None, :, None], low[None, None, None], high[None, None, None]
    lowlevel = _library()
    with full_precision(x.device.type):
        approximation, details = lowlevel.AFB2D.apply(x, *taps, lowlevel.mode_to_int(mode))  # (N, C, 3, H', W')
    bands = torch.cat([approximation, *details.unbind(2)], dim=1)
    return bands[..., : height // 2, : width // 2]


def _library_filters(wavelet: str) -> Tensor:
    """Return the low-pass and the high-pass filter, reversed as the library's function takes them: (2, L), float64."""
    taps = [taps[::-1] for taps in pywt.Wavelet(wavelet).filter_bank[:2]]
    return torch.tensor(taps, dtype=torch.float64, device="cpu")


@functools.cache
def _library() -> Any:
    """Import pytorch_wavelets when it is first needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # its import of pkg_resources warns of pkg_resources
        from pytorch_wavelets.dwt import lowlevel
    return lowlevel
