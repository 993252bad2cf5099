"""One preprocessing: 8-bit pixels of the square, and their normalisation on the device."""

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms.v2 import functional

from rfdetr_hwd.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    canvas_size,
    fit_image,
    fitted_size,
    normalise,
    normalise_boxes,
)


def preprocess(image: PIL.Image.Image, resolution: int, resize: str = "stretch") -> torch.Tensor:
    """Return one image as the network sees it."""
    fitted = fitted_size(image.height, image.width, resolution, resize)
    return normalise(fit_image(image, resolution, resize)[None], [fitted])[0]


def test_preprocessing_is_pillows_antialiased_resize() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(pixels)
    resized = np.asarray(image.resize((64, 64), PIL.Image.Resampling.BILINEAR), dtype=np.float32) / 255
    expected = (resized - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    result = preprocess(image, 64)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_values_stay_those_of_trained_models_to_the_bit() -> None:
    """Of every grey level in every channel, as torchvision's float32 arithmetic has them."""
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    expected = functional.normalize(functional.to_dtype(levels, scale=True), IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(normalise(levels), expected)
    assert normalise(levels)[0, :, 7, 12].tolist() == pytest.approx(
        [(124 / 255 - 0.485) / 0.229, (124 / 255 - 0.456) / 0.224, (124 / 255 - 0.406) / 0.225], abs=1e-6
    )


def test_the_padding_of_each_image_is_zero() -> None:
    images = [PIL.Image.new("RGB", size, (9, 9, 9)) for size in ((40, 20), (20, 40), (30, 30))]
    fitted = [fitted_size(image.height, image.width, 64, "letterbox") for image in images]
    pixels = torch.stack([fit_image(image, 64, "letterbox") for image in images])
    assert pixels.dtype == torch.uint8
    wide, high, square = normalise(pixels, fitted) != 0
    assert wide[:, :32].all() and not wide[:, 32:].any()  # noqa: PT018
    assert high[:, :, :32].all() and not high[:, :, 32:].any()  # noqa: PT018
    assert square.all()


def test_boxes_are_normalised_by_hand() -> None:
    result = normalise_boxes(torch.tensor([[20.0, 10, 60, 30]]), height=80, width=100)
    torch.testing.assert_close(result, torch.tensor([[0.4, 0.25, 0.4, 0.25]]))


@pytest.mark.parametrize(("height", "width"), [(90, 130), (131, 77), (64, 64), (3, 500)])
def test_letterboxed_boxes_come_back_exactly(height: int, width: int) -> None:
    side = 64
    fitted = fitted_size(height, width, side, "letterbox")
    assert max(fitted) == side
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = preprocess(PIL.Image.fromarray(pixels), side, "letterbox")
    assert image.shape == (3, side, side)
    assert (image[:, fitted[0] :] == 0).all()
    assert (image[:, :, fitted[1] :] == 0).all()
    assert (image[:, : fitted[0], : fitted[1]] != 0).any()
    canvas = canvas_size(height, width, side, "letterbox")
    whole = normalise_boxes(torch.tensor([[0.0, 0, width, height]], dtype=torch.float64), *canvas)
    shown = [0, 0, fitted[1] / side, fitted[0] / side]  # where the pixels of the whole image are
    torch.testing.assert_close(whole[0, 2:], torch.tensor(shown[2:], dtype=torch.float64))
    box = torch.tensor([[1.0, 2, width - 0.25, height]], dtype=torch.float64)
    cx, cy, w, h = normalise_boxes(box, *canvas)[0].tolist()
    corners = [(cx - w / 2) * canvas[1], (cy - h / 2) * canvas[0], (cx + w / 2) * canvas[1], (cy + h / 2) * canvas[0]]
    np.testing.assert_allclose(corners, box[0], atol=1e-9)


def test_stretching_has_the_image_as_its_canvas() -> None:
    assert canvas_size(131, 77, 96, "stretch") == (131.0, 77.0)
