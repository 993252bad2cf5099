r"""The downsamplers that are one linear map from 3x3 neighbourhoods: all of them fold exactly into the stock 3x3.

Each is y = sum_b W[o, b, c] (K_b * x_c) with fixed kernels K_b in the 3x3 window of the stock convolution (stride 2,
padding 1; the 2x2 family has its taps at rows and columns 1 and 2). They differ in the kernels that span the function,
hence in the basis the optimizer works in, in the first draw, and in nothing else.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rfdetr_hwd.layers.fixed import Fixed
from rfdetr_hwd.layers.registry import register_downsample
from rfdetr_hwd.layers.wavelet import conv2x2_stride2, embed_2x2_in_3x3, haar_kernels, pad_to_even, space_to_depth

_UNITS_2X2 = torch.eye(4, dtype=torch.float64).view(4, 2, 2)


class LinearDownsample(nn.Module):
    """Base of the linear downsamplers: one weight, fixed kernels, an exact fold and a least-squares fit.

    Attributes:
        weight: The only parameter.
        basis: Kernels K_b, shape (B, 3, 3), float64.
    """

    basis: ClassVar[Tensor]
    weight: nn.Parameter

    def coefficients(self) -> Tensor:
        """Return W[o, b, c] as a view of the weight, shape (O, B, C)."""
        raise NotImplementedError

    @torch.no_grad()
    def fold(self) -> Tensor:
        """Return the stock kernel that computes the same: shape (O, C, 3, 3), float64, for stride 2 and padding 1."""
        coefficients = self.coefficients().double()
        return torch.einsum("obc,bij->ocij", coefficients, self.basis.to(coefficients.device))

    @torch.no_grad()
    def fit(self, kernel: Tensor) -> float:
        """Set the weight so that the fold is nearest to a stock kernel.

        Nearest in the least-squares sense over the taps, which for white input is nearest in the output.

        Args:
            kernel: Shape (O, C, 3, 3).

        Returns:
            The fraction of the kernel's energy that is kept, in [0, 1].
        """
        kernel = kernel.double()
        basis = self.basis.to(kernel.device).flatten(1)  # (B, 9)
        coefficients = kernel.flatten(2) @ torch.linalg.pinv(basis)  # (O, C, B)
        self.coefficients().copy_(coefficients.transpose(1, 2))
        return float((coefficients @ basis).square().sum() / kernel.square().sum().clamp_min(1e-300))


class _BandMajor(LinearDownsample):
    """A weight (O, B C, 1, 1) whose channels are `band * C + c`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = draw_weight(out_channels, len(self.basis) * in_channels, 1, 1)

    def coefficients(self) -> Tensor:
        """Return the weight as (O, B, C)."""
        return self.weight.view(len(self.weight), len(self.basis), -1)


class _Convolution(LinearDownsample):
    """A weight (O, C, k, k)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        side = round(len(self.basis) ** 0.5)
        self.weight = draw_weight(out_channels, in_channels, side, side)

    def coefficients(self) -> Tensor:
        """Return the weight as (O, B, C)."""
        return self.weight.flatten(2).transpose(1, 2)


@register_downsample("conv3x3", mathematics="3x3, stride 2: stock RF-DETR", reference="RF-DETR")
class Conv3x3(_Convolution):
    """The stock RF-DETR projection: 3x3, stride 2, padding 1."""

    basis = torch.eye(9, dtype=torch.float64).view(9, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        return F.conv2d(x, self.weight, stride=2, padding=1)


@register_downsample("conv2x2", mathematics="2x2, stride 2", reference="ConvNeXt, CVPR 2022")
class Conv2x2(_Convolution):
    """Patchify: 2x2, stride 2 (Liu et al., "A ConvNet for the 2020s", CVPR 2022), zeros appended at odd sizes."""

    basis = embed_2x2_in_3x3(_UNITS_2X2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        return conv2x2_stride2(x, self.weight)


@register_downsample("spd", mathematics="space-to-depth, 1x1", reference="SPD-Conv, ECML 2022")
class SpaceToDepth(LinearDownsample):
    """Space-to-depth and a 1x1 convolution (Sunkara and Luo, "No More Strided Convolutions or Pooling", ECML 2022).

    The weight has shape (O, 4C, 1, 1) with channels as `torch.nn.PixelUnshuffle` orders them: `c * 4 + i * 2 + j`.
    """

    basis = embed_2x2_in_3x3(_UNITS_2X2)

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = draw_weight(out_channels, 4 * in_channels, 1, 1)

    def coefficients(self) -> Tensor:
        """Return the weight as (O, 4, C)."""
        return self.weight.view(len(self.weight), -1, 4).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        return F.conv2d(space_to_depth(x), self.weight)


@register_downsample("haar_ll", mathematics="Haar LL band, 1x1", reference="WaveCNet, CVPR 2020")
class HaarLowPass(_BandMajor):
    """The Haar low-pass band alone and a 1x1 convolution (Li et al., "Wavelet Integrated CNNs", CVPR 2020)."""

    basis = embed_2x2_in_3x3(haar_kernels(torch.float64)[:1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        return F.conv2d(F.avg_pool2d(pad_to_even(x), 2) * 2, self.weight)


@register_downsample("avgpool", mathematics="2x2 mean, 1x1", reference="-")
class AveragePool(_BandMajor):
    """The mean of 2x2 blocks and a 1x1 convolution; zeros are appended at odd sizes."""

    basis = embed_2x2_in_3x3(torch.full((1, 2, 2), 0.25, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        return F.conv2d(F.avg_pool2d(pad_to_even(x), 2), self.weight)


@register_downsample("blur", mathematics="[1 2 1]x[1 2 1]/16 with stride 2, 1x1", reference="Zhang, ICML 2019")
class Blur(_BandMajor):
    """Binomial blur at stride 2, then a 1x1 convolution.

    Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019. The blur is depthwise, with zero padding.
    """

    basis = (torch.tensor([1.0, 2, 1]).outer(torch.tensor([1.0, 2, 1])) / 16).double()[None]

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self._kernel = Fixed(self.basis[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        channels = x.shape[1]
        kernel = self._kernel(self.weight).expand(channels, 1, 3, 3)
        return F.conv2d(F.conv2d(x, kernel, stride=2, padding=1, groups=channels), self.weight)


def draw_weight(*shape: int) -> nn.Parameter:
    """Return a parameter drawn as `torch.nn.Conv2d` draws its weight: uniform within 1 / sqrt(fan-in)."""
    weight = torch.empty(*shape)
    nn.init.kaiming_uniform_(weight, a=5**0.5)
    return nn.Parameter(weight)


def draw_equal_kernel(in_channels: int, out_channels: int) -> Tensor:
    """Draw a 2x2 kernel, embedded in (O, C, 3, 3), that `hwd`, `spd` and `conv2x2` can all start from exactly."""
    return embed_2x2_in_3x3(draw_weight(out_channels, in_channels, 2, 2).detach())
