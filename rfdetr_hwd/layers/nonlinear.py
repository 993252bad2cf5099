"""Downsamplers that are not linear in their input, so they do not fold into a convolution."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rfdetr_hwd.layers.linear import draw_weight
from rfdetr_hwd.layers.registry import DownsampleError, register_downsample
from rfdetr_hwd.layers.wavelet import haar_bands, pad_to_even


@register_downsample("maxpool", mathematics="2x2 maximum, 1x1", reference="-")
class MaxPool(nn.Module):
    """The maximum of 2x2 blocks and a 1x1 convolution; the last row and column of odd sizes are pooled alone."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = draw_weight(out_channels, in_channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        return F.conv2d(F.max_pool2d(x, 2, ceil_mode=True), self.weight)


@register_downsample(
    "adown", mathematics="2x2 mean; half 3x3 stride 2, half 3x3 maximum and 1x1", reference="YOLOv9, ECCV 2024"
)
class ADown(nn.Module):
    """YOLOv9's downsampling (Wang et al., ECCV 2024), its norms and activations left to the site.

    A 2x2 mean at stride 1; one half of the channels then goes through a 3x3 convolution at stride 2, the other
    through a 3x3 maximum at stride 2 and a 1x1 convolution. Zeros are appended at odd sizes, where other
    implementations round down.

    Raises:
        DownsampleError: The input or output channels are odd.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if in_channels % 2 or out_channels % 2:
            raise DownsampleError(f"adown halves its channels: {in_channels} in and {out_channels} out must be even")
        self.weight_strided = draw_weight(out_channels // 2, in_channels // 2, 3, 3)
        self.weight_pooled = draw_weight(out_channels // 2, in_channels // 2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        strided, pooled = F.avg_pool2d(pad_to_even(x), 2, stride=1).chunk(2, dim=1)
        strided = F.conv2d(strided, self.weight_strided, stride=2, padding=1)
        pooled = F.conv2d(F.max_pool2d(pooled, 3, stride=2, padding=1), self.weight_pooled)
        return torch.cat([strided, pooled], dim=1)


@register_downsample("gated", mathematics="Haar bands, a gate on each band, 1x1", reference="-")
class GatedHWD(nn.Module):
    """HWD whose bands are weighed by the image: a gate of each band from the mean magnitudes of the four.

    The gates are 2 sigmoid(G m) with m the mean magnitude of each band, so at its start, with G = 0, it is HWD.

    Attributes:
        weight: Shape (O, 4C, 1, 1), band-major.
        gate: G, shape (4, 4).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = draw_weight(out_channels, 4 * in_channels, 1, 1)
        self.gate = nn.Parameter(torch.zeros(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, O, ceil(H / 2), ceil(W / 2))."""
        bands = haar_bands(x)  # (N, 4, C, H', W')
        magnitudes = bands.abs().mean(dim=(2, 3, 4))  # (N, 4)
        gates = 2 * torch.sigmoid(F.linear(magnitudes, self.gate))
        return F.conv2d((bands * gates.to(bands.dtype)[:, :, None, None, None]).flatten(1, 2), self.weight)
