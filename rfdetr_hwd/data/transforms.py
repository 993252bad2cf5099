"""The one preprocessing: what happens to an image before the model sees it.

Training, validation, prediction and export share it, so a model is measured and used on what it was trained on. It has
two parts. `fit_image` makes 8-bit pixels of the model's square, which are small to hand over to a device. `normalise`
runs there.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import PIL.Image
import torch
from torch import Tensor

Resize = Literal["stretch", "letterbox"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MEAN_COLOUR = (124, 116, 104)
"""ImageNet's mean in 8 bits, rounded. It is seen in pictures only: `normalise` sets the padding to the exact mean."""


def fit_image(image: PIL.Image.Image, resolution: int, resize: Resize = "stretch") -> Tensor:
    """Resize an RGB image to a square with Pillow's antialiased bilinear filter.

    Args:
        image: RGB image of any size.
        resolution: Width and height of the square in pixels.
        resize: `stretch` changes the aspect ratio, as in RF-DETR's training. `letterbox` keeps it and pads the image at
            the right and bottom with ImageNet's mean colour.

    Returns:
        Uint8 tensor of shape (3, resolution, resolution), with the channels last in memory.
    """
    height, width = fitted_size(image.height, image.width, resolution, resize)
    fitted = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
    if (height, width) != (resolution, resolution):
        square = PIL.Image.new("RGB", (resolution, resolution), MEAN_COLOUR)
        square.paste(fitted)
        fitted = square
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)


def normalise(images: Tensor, fitted: Sequence[tuple[int, int]] = ()) -> Tensor:
    """Normalise images with ImageNet's mean and deviation, on their device. Padding becomes zero, the mean colour.

    Args:
        images: Shape (N, 3, R, R) uint8, from `fit_image`.
        fitted: (height, width) in pixels that each image has within the square; empty if all fill it.

    Returns:
        Float32 tensor of the same shape, with the channels first in memory.
    """
    mean, deviation = (_per_channel(values, images.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    normalised = images.to(torch.float32, memory_format=torch.contiguous_format)
    normalised.mul_(1 / 255).sub_(mean).div_(deviation)
    for image, (height, width) in zip(normalised, fitted, strict=False):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return normalised


def _per_channel(values: Sequence[float], device: torch.device) -> Tensor:
    """Return a value for each channel, shape (3, 1, 1). It is filled on the device: no copy waits for the host."""
    return torch.stack([torch.full((1, 1), value, device=device) for value in values])


def fitted_size(height: int, width: int, resolution: int, resize: Resize) -> tuple[int, int]:
    """Return (height, width) in pixels that an image has within the model's square."""
    if resize == "stretch":
        return resolution, resolution
    scale = resolution / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def canvas_size(height: int, width: int, resolution: int, resize: Resize) -> tuple[float, float]:
    """Return (height, width) of the model's square in pixels of the image.

    Boxes as fractions of the square times this are boxes in the image, exactly, whatever the rounding of the resize.
    """
    fitted_height, fitted_width = fitted_size(height, width, resolution, resize)
    return height * (resolution / fitted_height), width * (resolution / fitted_width)


def decoding_sizes(height: int, width: int, resolution: int, resize: Resize) -> Tensor:
    """Return (height, width) of the model's square and of the image, in its pixels: what its boxes are decoded with.

    Returns:
        Float32 tensor of shape (2, 2).
    """
    return torch.tensor([canvas_size(height, width, resolution, resize), (float(height), float(width))])


def normalise_boxes(boxes_xyxy: Tensor, height: float, width: float) -> Tensor:
    """Convert boxes (n, 4) from xyxy in pixels to cxcywh as fractions of a canvas."""
    x0, y0, x1, y1 = (boxes_xyxy / boxes_xyxy.new_tensor([width, height, width, height])).unbind(1)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=1)
