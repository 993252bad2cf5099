"""The Haar identities: against PyWavelets, against a worked example, and back."""

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.layers.wavelet import (
    blocks_to_channels,
    embed_2x2_in_3x3,
    fold_haar,
    haar_bands,
    haar_kernels,
    pad_to_even,
    space_to_depth,
)

KERNELS = haar_kernels(torch.float64)


def transform(x: torch.Tensor) -> torch.Tensor:
    """Haar DWT of (N, C, H, W) by convolution, band-major (N, 4C, H', W')."""
    channels = x.shape[1]
    kernels = haar_kernels(x.dtype).repeat_interleave(channels, 0)[:, None]  # (4C, 1, 2, 2)
    return F.conv2d(pad_to_even(x).repeat(1, 4, 1, 1), kernels, stride=2, groups=4 * channels)


def test_worked_example() -> None:
    image = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [0, 0, 1, 0], [0, 0, 0, 0]])
    low, horizontal, vertical, diagonal = transform(image[None, None])[0]
    assert low.tolist() == [[7.0, 11.0], [0.0, 0.5]]
    assert horizontal.tolist() == [[-4.0, -4.0], [0.0, 0.5]]
    assert vertical.tolist() == [[-1.0, -1.0], [0.0, 0.5]]
    assert diagonal.tolist() == [[0.0, 0.0], [0.0, 0.5]]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_bands_are_pywavelets(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(height, width))
    approximation, (horizontal, vertical, diagonal) = pywt.dwt2(image, "haar", mode="zero")
    ours = transform(torch.from_numpy(image)[None, None])[0].numpy()
    np.testing.assert_allclose(ours, [approximation, horizontal, vertical, diagonal], atol=1e-12)


def test_kernels_are_orthonormal() -> None:
    kernels = haar_kernels(torch.float64).flatten(1)
    assert torch.equal(kernels @ kernels.T, torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (6, 7), (1, 1), (2, 3)])
def test_folded_weights_equal_transform_and_1x1(size: tuple[int, int]) -> None:
    weight = torch.randn(5, 12, 1, 1, dtype=torch.float64)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = F.conv2d(transform(x), weight)
    folded = fold_haar(weight, KERNELS)
    torch.testing.assert_close(F.conv2d(blocks_to_channels(x), folded), expected, atol=1e-12, rtol=0)
    kernel = folded.view(5, 2, 2, 3).permute(0, 3, 1, 2)  # taps as channels -> (O, C, 2, 2)
    torch.testing.assert_close(F.conv2d(pad_to_even(x), kernel, stride=2), expected, atol=1e-12, rtol=0)
    stock = F.conv2d(x, embed_2x2_in_3x3(kernel), stride=2, padding=1)
    torch.testing.assert_close(stock, expected, atol=1e-12, rtol=0)


def test_the_fold_is_its_own_inverse() -> None:
    weight = torch.randn(5, 12, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(fold_haar(fold_haar(weight, KERNELS), KERNELS), weight, atol=1e-12, rtol=0)


def test_the_fold_is_the_stated_sum() -> None:
    weight = torch.randn(5, 12, 1, 1, dtype=torch.float64)
    stated = torch.einsum("obc,bij->oijc", weight.view(5, 4, 3), haar_kernels(torch.float64))
    torch.testing.assert_close(fold_haar(weight, KERNELS), stated.reshape(5, 12, 1, 1), atol=1e-12, rtol=0)


def test_the_fold_is_not_lowered_by_mixed_precision() -> None:
    weight = torch.randn(5, 12, 1, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = fold_haar(weight, haar_kernels())
    assert torch.equal(lowered, fold_haar(weight, haar_kernels()))


def test_transform_by_additions_is_the_transform() -> None:
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(haar_bands(x).flatten(1, 2), transform(x), atol=1e-12, rtol=0)


def test_space_to_depth_is_pixel_unshuffle() -> None:
    x = torch.randn(2, 3, 6, 8)
    assert torch.equal(space_to_depth(x), F.pixel_unshuffle(x, 2))
