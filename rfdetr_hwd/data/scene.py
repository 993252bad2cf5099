"""An image with its objects, while it is augmented."""

from typing import NamedTuple

import PIL.Image
from torch import Tensor


class Scene(NamedTuple):
    """An image with its objects.

    Attributes:
        image: RGB image.
        boxes_xyxy: Shape (n, 4), in pixels of the image.
        labels: Shape (n,).
    """

    image: PIL.Image.Image
    boxes_xyxy: Tensor
    labels: Tensor

    def within_image(self, min_visible: float = 0.0) -> "Scene":
        """Return the scene with its boxes clipped to the image. A box thinner than a pixel is dropped.

        Args:
            min_visible: A box is also dropped if a smaller fraction of its area is left.
        """
        image, boxes_xyxy, labels = self
        limits = boxes_xyxy.new_tensor([image.width, image.height, image.width, image.height])
        clipped = boxes_xyxy.clamp_min(0).minimum(limits)
        extents = clipped[:, 2:] - clipped[:, :2]
        is_kept = (extents >= 1).all(dim=1)
        if min_visible:
            areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(dim=1)
            is_kept &= extents.prod(dim=1) >= min_visible * areas
        return Scene(image, clipped[is_kept], labels[is_kept])
