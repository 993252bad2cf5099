"""Scale jitter and rotation by small angles, in one resampling."""

import math

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.scene import Scene
from rfdetr_hwd.data.transforms import MEAN_COLOUR

MIN_VISIBLE = 0.1
"""A box is dropped if a smaller fraction of its area stays in the image."""


def warp_randomly(scene: Scene, parts: AugmentSection, generator: np.random.Generator) -> Scene:
    """Return the image scaled and rotated within its own size, with the probabilities of the configuration.

    Args:
        scene: The image.
        parts: Probabilities and sizes of the changes.
        generator: Called the same number of times whatever is drawn.
    """
    is_scaled, is_rotated = generator.random(2) < (parts.scale, parts.rotate)
    factor = generator.uniform(parts.min_scale, parts.max_scale)
    angle = generator.uniform(-parts.max_angle, parts.max_angle)
    place = generator.uniform(-0.5, 0.5, 2)
    if not (is_scaled or is_rotated):
        return scene
    factor = factor if is_scaled else 1.0
    # A smaller image lies anywhere within the frame. Of a larger one any part is seen.
    across, down = (place * (1 - factor) * scene.image.size).tolist()
    return warp(scene, angle if is_rotated else 0.0, factor, (across, down))


def warp(scene: Scene, angle: float, factor: float, shift: tuple[float, float]) -> Scene:
    """Return the image rotated and scaled about its centre, then shifted, in a frame of its own size.

    Args:
        scene: The image.
        angle: Clockwise, in degrees.
        factor: Above 1 enlarges.
        shift: To the right and down, in pixels.
    """
    image = functional.affine(
        scene.image,
        angle,
        list(shift),
        factor,
        [0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
        fill=list(MEAN_COLOUR),
    )
    boxes_xyxy = warp_boxes(scene.boxes_xyxy, scene.image.size, angle, factor, shift)
    return Scene(image, boxes_xyxy, scene.labels).within_image(MIN_VISIBLE)


def warp_boxes(
    boxes_xyxy: Tensor, size: tuple[int, int], angle: float, factor: float, shift: tuple[float, float]
) -> Tensor:
    """Return the boxes (n, 4) around the warped corners of boxes, which may lie outside the image.

    Args:
        boxes_xyxy: Shape (n, 4), in pixels.
        size: (width, height) of the image.
        angle: As in `warp`.
        factor: As in `warp`.
        shift: As in `warp`.
    """
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    matrix = factor * torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
    centre = torch.tensor(size, dtype=torch.float64) / 2
    corners = boxes_xyxy.double()[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    moved = (corners - centre) @ matrix.T + centre + torch.tensor(shift, dtype=torch.float64)
    return torch.cat([moved.amin(dim=1), moved.amax(dim=1)], dim=1).to(boxes_xyxy.dtype)
