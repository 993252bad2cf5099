r"""The mathematics of Haar wavelet downsampling, as pure functions.

The discrete Haar transform (DWT) followed by a 1x1 convolution is linear and shift-invariant over 2x2 blocks, so it is
a 2x2 stride-2 convolution. With the 1x1 weight W[o, b, c] (band-major, as in the code of Xu et al., "Haar wavelet
downsampling", Pattern Recognition 2023) and the analysis kernels K[b, i, j]:

    k2[o, c, i, j] = sum_b W[o, b, c] K[b, i, j]          2x2, stride 2, no padding
    k3             = k2 with a zero row above and a zero column to the left: 3x3, stride 2, padding 1

`conv(x, k3)` equals DWT with zero padding and 1x1, at even and odd sizes; it is a kernel of the stock RF-DETR shape.
"""

import pywt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rfdetr_hwd.amp import full_precision

HAAR_BANDS = ("LL", "cH", "cV", "cD")
"""Band order. cH, cV and cD are PyWavelets' names; Xu et al. write HL, LH and HH for them."""


def haar_kernels(dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the orthonormal 2x2 Haar analysis kernels.

    Returns:
        Tensor of shape (4, 2, 2): the bands of `HAAR_BANDS`, each with entries of +-1/2.

    Example:
        >>> haar_kernels()[0].tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    signs = [[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]
    return torch.tensor(signs, dtype=dtype, device="cpu") / 2


def fold_haar(weight: Tensor, kernels: Tensor) -> Tensor:
    """Fold a band-major 1x1 weight behind the Haar transform into the equal 1x1 weight behind `blocks_to_channels`.

    That weight is the 2x2 stride-2 kernel, its taps laid out as channels. The fold runs in the weight's own precision,
    whatever surrounds it: lowered by mixed precision, the kernel would be rounded twice.

    Args:
        weight: Shape (O, 4C, 1, 1), channel index `band * C + c`.
        kernels: Of `haar_kernels`, in the type of the weight and on its device.

    Returns:
        Shape (O, 4C, 1, 1), channel index `(i * 2 + j) * C + c` for row i and column j of the block.
    """
    with full_precision(weight.device.type):  # the matrix of 4 bands and 4 taps is its own inverse
        return (kernels.flatten(1) @ weight.view(len(weight), 4, -1)).view_as(weight)


def blocks_to_channels(x: Tensor) -> Tensor:
    """Move the four positions of 2x2 blocks to channels `(i * 2 + j) * C + c`, zeros appended at odd sizes.

    A 1x1 convolution of the result is a 2x2 stride-2 convolution of x, as one plain matrix product.

    Args:
        x: Shape (N, C, H, W).

    Returns:
        Shape (N, 4C, ceil(H / 2), ceil(W / 2)).
    """
    blocks = _blocks(x)  # (N, C, H', 2, W', 2)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(len(x), 4 * x.shape[1], blocks.shape[2], blocks.shape[4])


def space_to_depth(x: Tensor) -> Tensor:
    """Move the four positions of 2x2 blocks to channels `c * 4 + i * 2 + j`, zeros appended at odd sizes.

    As `torch.nn.functional.pixel_unshuffle`, which does not reshape an empty batch.

    Args:
        x: Shape (N, C, H, W).

    Returns:
        Shape (N, 4C, ceil(H / 2), ceil(W / 2)).
    """
    blocks = _blocks(x)  # (N, C, H', 2, W', 2)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(len(x), 4 * x.shape[1], blocks.shape[2], blocks.shape[4])


def _blocks(x: Tensor) -> Tensor:
    """View (N, C, H, W) as its 2x2 blocks (N, C, ceil(H / 2), 2, ceil(W / 2), 2)."""
    x = pad_to_even(x)
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // 2, 2, width // 2, 2)


def embed_2x2_in_3x3(kernel: Tensor) -> Tensor:
    """Embed a 2x2 stride-2 kernel in the 3x3 stride-2 padding-1 kernel that computes the same.

    Args:
        kernel: Shape (O, C, 2, 2).

    Returns:
        Kernel of shape (O, C, 3, 3) whose first row and first column are zero.
    """
    return F.pad(kernel, (1, 0, 1, 0))


def conv2x2_stride2(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve with a 2x2 kernel at stride 2, zeros appended below and to the right of odd sizes.

    Args:
        x: Shape (N, C, H, W).
        kernel: Shape (O, C, 2, 2).

    Returns:
        Shape (N, O, ceil(H / 2), ceil(W / 2)).
    """
    return F.conv2d(pad_to_even(x), kernel, stride=2)


def pad_to_even(x: Tensor) -> Tensor:
    """Append a zero row and a zero column where the height or the width is odd."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else x


def haar_bands(x: Tensor) -> Tensor:
    """Return the Haar transform of (N, C, H, W), shape (N, 4, C, ceil(H / 2), ceil(W / 2)), by additions alone."""
    x = pad_to_even(x) / 2
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    top, bottom, top_difference, bottom_difference = a + b, c + d, a - b, c - d
    bands = [top + bottom, top - bottom, top_difference + bottom_difference, top_difference - bottom_difference]
    return torch.stack(bands, dim=1)


def analysis_kernels(wavelet: str) -> Tensor:
    """Return the analysis kernels of a discrete wavelet for cross-correlation.

    Args:
        wavelet: A name of PyWavelets.

    Returns:
        Shape (4, L, L), float64: the bands LL, cH, cV, cD, L the filter length.
    """
    low, high = (
        torch.tensor(f[::-1], dtype=torch.float64, device="cpu") for f in pywt.Wavelet(wavelet).filter_bank[:2]
    )
    return torch.stack([low.outer(low), high.outer(low), low.outer(high), high.outer(high)])


def pad_circular(x: Tensor, margin: int) -> Tensor:
    """Pad (N, C, H, W) circularly by a margin on every edge, wrapping around several times if needed."""
    height, width = x.shape[-2:]
    if margin <= min(height, width):
        return F.pad(x, (margin, margin, margin, margin), mode="circular") if margin else x
    rows = torch.arange(-margin, height + margin, device=x.device) % height
    columns = torch.arange(-margin, width + margin, device=x.device) % width
    return x[..., rows[:, None], columns]
