"""Random augmentation, drawn from (seed, epoch, image id). Each part draws from a stream of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.scene import Scene

WARP, TURN, COLOUR, MIX, PARTNER = 5, 6, 7, 8, 9
"""Random streams of the parts, beside those of `rfdetr_hwd.data.dataset`."""


@dataclass(frozen=True)
class Augmentation:
    """The random changes of a run.

    Attributes:
        seed: Seed of the run.
        parts: Probabilities and sizes of the changes.
        mixed_epochs: How many epochs, the first ones, have mosaic and mixup.
    """

    seed: int
    parts: AugmentSection
    mixed_epochs: int = 0

    @classmethod
    def of_run(cls, parts: AugmentSection, seed: int, epochs: int) -> "Augmentation":
        """Return the augmentation of a run.

        Args:
            parts: Section of the configuration.
            seed: Seed of the run.
            epochs: Epochs of the run.
        """
        return cls(seed, parts, parts.mixed_epochs(epochs))


class Crop(NamedTuple):
    """A rectangle in pixels of an image."""

    left: int
    top: int
    width: int
    height: int


def augment(
    scene: Scene, parts: AugmentSection, entropy: Sequence[int], partner: Callable[[int], Scene] | None = None
) -> Scene:
    """Change an image and its boxes. The outcome depends on `entropy` and the partners alone.

    The order is: mosaic, mixup, scale and rotation, turn, flips, crop, colour. Boxes that leave the image or are
    thinner than a pixel are dropped.

    Args:
        scene: The image.
        parts: Probabilities and sizes of the changes.
        entropy: Non-negative integers, such as (stream, seed, epoch, image id).
        partner: Returns the image number 0, 1, ... to mix this one with. `None`: no mosaic and no mixup.
    """
    # Late imports: the default has none of these parts, and they take torchvision.
    if partner is not None and parts.is_mixing:
        from rfdetr_hwd.data.mixing import mix

        scene = mix(scene, parts, np.random.default_rng((MIX, *entropy)), partner)
    if parts.scale or parts.rotate:
        from rfdetr_hwd.data.warping import warp_randomly

        scene = warp_randomly(scene, parts, np.random.default_rng((WARP, *entropy)))
    if parts.turn or parts.vertical_flip:
        from rfdetr_hwd.data.turning import turn_randomly

        scene = turn_randomly(scene, parts, np.random.default_rng((TURN, *entropy)))
    if parts.flip or parts.crop:
        scene = _flip_and_crop(scene, parts, torch.Generator().manual_seed(draw_seed(entropy)))
    if parts.colour:
        from rfdetr_hwd.data.colour import change_colour

        scene = scene._replace(image=change_colour(scene.image, parts, np.random.default_rng((COLOUR, *entropy))))
    return scene.within_image()


def _flip_and_crop(scene: Scene, parts: AugmentSection, generator: torch.Generator) -> Scene:
    image, boxes_xyxy, labels = scene
    is_flipped = bool(torch.rand(1, generator=generator) < parts.flip)
    is_cropped = bool(torch.rand(1, generator=generator) < parts.crop)
    # Flip, then crop. The pixels are cropped first: fewer are to be flipped.
    if is_flipped:
        x0, y0, x1, y1 = boxes_xyxy.unbind(1)
        boxes_xyxy = torch.stack([image.width - x1, y0, image.width - x0, y1], dim=1)
    if is_cropped:
        left, top, width, height = draw_crop(image.height, image.width, parts.min_crop, generator)
        boxes_xyxy = boxes_xyxy - boxes_xyxy.new_tensor([left, top, left, top])
        stored_left = image.width - left - width if is_flipped else left
        image = image.crop((stored_left, top, stored_left + width, top + height))
    if is_flipped:
        image = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return Scene(image, boxes_xyxy, labels)


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
