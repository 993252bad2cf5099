"""A patch embedding behind a downsampler: twice the input resolution for the same tokens."""

import torch
from torch import Tensor, nn

from rfdetr_hwd.layers.linear import LinearDownsample
from rfdetr_hwd.layers.registry import build_downsample
from rfdetr_hwd.layers.wavelet import embed_2x2_in_3x3, haar_kernels


class DownsampledPatchEmbedding(nn.Module):
    """Downsample the image to 4 bands a channel, then embed patches of p pixels of the bands.

    It stands where a stock model has a convolution of patch size and stride 2p. The downsampler starts as the Haar
    analysis of each channel, as far as it can: LL of all channels first, then cH, cV and cD.

    Args:
        name: Registered downsampler.
        in_channels: Channels of the image, C.
        embed_dim: Width of a token, D.
        patch_size: p, in pixels of the bands.
        options: The downsampler's own.

    Attributes:
        downsample: (N, C, H, W) to (N, 4C, H / 2, W / 2).
        conv: (N, 4C, H / 2, W / 2) to (N, D, H / 2p, W / 2p).
    """

    def __init__(self, name: str, in_channels: int, embed_dim: int, patch_size: int, **options: object) -> None:
        super().__init__()
        self.downsample = build_downsample(name, in_channels, 4 * in_channels, **options)
        self.conv = nn.Conv2d(4 * in_channels, embed_dim, patch_size, stride=patch_size)
        _start_as_haar_analysis(self.downsample, in_channels)

    @property
    def weight(self) -> Tensor:
        """The convolution's weight, whose dtype the encoder casts its input to."""
        return self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to tokens (N, D, H / 2p, W / 2p)."""
        embedded: Tensor = self.conv(self.downsample(x))
        return embedded

    @torch.no_grad()
    def fold(self) -> Tensor:
        """Return the stock kernel that computes the same: (D, C, 2p, 2p), float64, for stride 2p and no padding.

        Raises:
            ValueError: The downsampler is not linear, or reads across the border of a patch.
        """
        if not isinstance(self.downsample, LinearDownsample):
            raise ValueError("it is not linear in its 3x3 neighbourhood")
        kernel = self.downsample.fold()  # (4C, C, 3, 3)
        if kernel[..., 0, :].abs().max() > 0 or kernel[..., 0].abs().max() > 0:
            raise ValueError("it reads a pixel above and to the left, across the border of the patch")
        # A token covers p pixels of the bands, and each of these 2 pixels of the image.
        folded = torch.einsum("dmuv,mcij->dcuivj", self.conv.weight.double(), kernel[..., 1:, 1:])
        return folded.flatten(4, 5).flatten(2, 3)  # (D, C, p, 2, p, 2) -> (D, C, 2p, 2p)

    @torch.no_grad()
    def start_from(self, kernel: Tensor, bias: Tensor) -> None:
        """Start from a patch embedding of size p on the 2x2-averaged image. The start is exact for 2x2 families.

        The LL rows become half the old kernel (LL is twice the mean), the detail rows zero.

        Args:
            kernel: Shape (D, C, p, p).
            bias: Shape (D,).
        """
        self.conv.weight.zero_()
        self.conv.weight[:, : kernel.shape[1]] = kernel / 2
        self.conv.bias.copy_(bias)  # type: ignore[union-attr]


def _start_as_haar_analysis(module: nn.Module, channels: int) -> None:
    """Set a downsampler C -> 4C to the four Haar bands of each channel, band-major. Leave others as drawn."""
    weight = getattr(module, "weight", None)
    if isinstance(module, LinearDownsample):
        bands = (
            haar_kernels(torch.float64)[:, None, None] * torch.eye(channels, dtype=torch.float64)[None, ..., None, None]
        )
        module.fit(embed_2x2_in_3x3(bands.flatten(0, 1)))  # (4, C, C, 2, 2) -> (4C, C, 3, 3)
    elif isinstance(weight, nn.Parameter) and weight.shape[:2] == (4 * channels, 4 * channels):
        weight.data.copy_(torch.eye(4 * channels)[..., None, None])
