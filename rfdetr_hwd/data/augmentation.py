"""Random augmentation: horizontal flip and crop, drawn from (seed, epoch, image id)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Settings of the random changes.

    Attributes:
        seed: Seed of the run.
        flip: Probability of the horizontal flip.
        crop: Probability of the crop.
        min_crop: Smallest width and height of the crop, as fractions of the image's.
    """

    seed: int
    flip: float
    crop: float
    min_crop: float


class Crop(NamedTuple):
    """A rectangle in pixels of an image."""

    left: int
    top: int
    width: int
    height: int


def augment(
    image: PIL.Image.Image, boxes_xyxy: Tensor, labels: Tensor, settings: Augmentation, entropy: Sequence[int]
) -> tuple[PIL.Image.Image, Tensor, Tensor]:
    """Flip and crop an image. The outcome depends on `entropy` alone.

    Boxes that leave the image or are thinner than a pixel are dropped.

    Args:
        image: RGB image.
        boxes_xyxy: Shape (n, 4), in pixels of the image.
        labels: Shape (n,).
        settings: Probabilities and the size of the crop.
        entropy: Non-negative integers, such as (seed, epoch, image id).

    Returns:
        The changed image, and the boxes and labels that are left in it.
    """
    generator = torch.Generator().manual_seed(draw_seed(entropy))
    is_flipped = bool(torch.rand(1, generator=generator) < settings.flip)
    is_cropped = bool(torch.rand(1, generator=generator) < settings.crop)
    # Flip, then crop. The pixels are cropped first: fewer are to be flipped.
    if is_flipped:
        x0, y0, x1, y1 = boxes_xyxy.unbind(1)
        boxes_xyxy = torch.stack([image.width - x1, y0, image.width - x0, y1], dim=1)
    if is_cropped:
        left, top, width, height = draw_crop(image.height, image.width, settings.min_crop, generator)
        boxes_xyxy = boxes_xyxy - boxes_xyxy.new_tensor([left, top, left, top])
        stored_left = image.width - left - width if is_flipped else left
        image = image.crop((stored_left, top, stored_left + width, top + height))
    if is_flipped:
        image = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    # Drop what is no longer in the image.
    limits = boxes_xyxy.new_tensor([image.width, image.height, image.width, image.height])
    boxes_xyxy = boxes_xyxy.clamp_min(0).minimum(limits)
    is_kept = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] >= 1).all(dim=1)
    return image, boxes_xyxy[is_kept], labels[is_kept]


def draw_crop(image_height: int, image_width: int, min_scale: float, generator: torch.Generator) -> Crop:
    """Draw a crop of random size at a random place, as in DETR's recipe (Carion et al., ECCV 2020, A.4).

    Args:
        image_height: In pixels.
        image_width: In pixels.
        min_scale: Smallest height and width, as fractions of the image's.
        generator: Called once each for size and place.
    """
    scales = torch.empty(2).uniform_(min_scale, 1, generator=generator).tolist()
    place = torch.rand(2, generator=generator).tolist()
    height, width = max(1, round(image_height * scales[0])), max(1, round(image_width * scales[1]))
    return Crop(int(place[1] * (image_width - width + 1)), int(place[0] * (image_height - height + 1)), width, height)


def draw_seed(entropy: Sequence[int]) -> int:
    """Return a 63-bit seed that is a hash of non-negative integers."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
