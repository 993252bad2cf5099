"""Vertical flips and quarter turns, for images without an upright direction. Every pixel is kept."""

import numpy as np
import PIL.Image
import torch

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.scene import Scene


def turn_randomly(scene: Scene, parts: AugmentSection, generator: np.random.Generator) -> Scene:
    """Return the image turned and flipped, with the probabilities of the configuration.

    Args:
        scene: The image.
        parts: Probabilities of the changes.
        generator: Called the same number of times whatever is drawn.
    """
    is_turned, is_flipped = generator.random(2) < (parts.turn, parts.vertical_flip)
    quarters = int(generator.integers(1, 4))
    scene = turn(scene, quarters if is_turned else 0)
    return flip_vertically(scene) if is_flipped else scene


def turn(scene: Scene, quarters: int) -> Scene:
    """Return the image turned counter-clockwise.

    Args:
        scene: The image.
        quarters: Quarter turns, from 0.
    """
    for _ in range(quarters):
        x0, y0, x1, y1 = scene.boxes_xyxy.unbind(1)
        boxes_xyxy = torch.stack([y0, scene.image.width - x1, y1, scene.image.width - x0], dim=1)
        scene = Scene(scene.image.transpose(PIL.Image.Transpose.ROTATE_90), boxes_xyxy, scene.labels)
    return scene


def flip_vertically(scene: Scene) -> Scene:
    """Return the image upside down, as in a mirror below it."""
    x0, y0, x1, y1 = scene.boxes_xyxy.unbind(1)
    boxes_xyxy = torch.stack([x0, scene.image.height - y1, x1, scene.image.height - y0], dim=1)
    return Scene(scene.image.transpose(PIL.Image.Transpose.FLIP_TOP_BOTTOM), boxes_xyxy, scene.labels)
