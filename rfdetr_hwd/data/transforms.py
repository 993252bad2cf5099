"""What happens to an image before the model sees it: one deterministic preprocessing, and random augmentation.

Training, validation and prediction share `preprocess`, so a model is measured and used on what it was trained on.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F  # noqa: N812

Resize = Literal["stretch", "letterbox"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def preprocess(image: PIL.Image.Image, resolution: int, resize: Resize = "stretch") -> Tensor:
    """Resize an RGB image to a square with antialiasing and normalise it with ImageNet's mean and deviation.

    Args:
        image: RGB image of any size.
        resolution: Width and height of the square in pixels.
        resize: `stretch` changes the aspect ratio, as in RF-DETR's training. `letterbox` keeps it and pads the image at
            the right and bottom with ImageNet's mean colour.

    Returns:
        Float32 tensor of shape (3, resolution, resolution).
    """
    size = fitted_size(image.height, image.width, resolution, resize)
    resized = F.resize(image, list(size), interpolation=v2.InterpolationMode.BILINEAR, antialias=True)
    normalised: Tensor = F.normalize(F.to_dtype(F.pil_to_tensor(resized), scale=True), IMAGENET_MEAN, IMAGENET_STD)
    if size == (resolution, resolution):
        return normalised
    return torch.nn.functional.pad(normalised, (0, resolution - size[1], 0, resolution - size[0]))


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


def decoding_sizes(
    height: int, width: int, resolution: int, resize: Resize
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (height, width) of the model's square and of the image, in its pixels: what its boxes are decoded with."""
    return canvas_size(height, width, resolution, resize), (float(height), float(width))


def augment(
    image: PIL.Image.Image,
    boxes_xyxy: Tensor,
    labels: Tensor,
    transform: v2.Transform,
    entropy: Sequence[int],
) -> tuple[PIL.Image.Image, Tensor, Tensor]:
    """Apply a random transform whose outcome depends on `entropy` alone.

    Args:
        image: RGB image.
        boxes_xyxy: Shape (n, 4), in pixels of the image.
        labels: Shape (n,).
        transform: From `build_augmentation`.
        entropy: Non-negative integers, such as (seed, epoch, image id).

    Returns:
        The changed image, and the boxes and labels that are left in it.
    """
    boxes = tv_tensors.BoundingBoxes(boxes_xyxy, format="XYXY", canvas_size=(image.height, image.width))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draw_seed(entropy))  # torch.manual_seed would also reseed every GPU
        image, boxes, labels = transform(image, boxes, labels)
    return image, boxes.as_subclass(Tensor), labels


def build_augmentation(flip: float, crop: float, min_crop: float) -> v2.Transform:
    """Return horizontal flip and random crop, dropping the boxes that leave the image or are thinner than a pixel.

    Args:
        flip: Probability of the flip.
        crop: Probability of the crop.
        min_crop: Smallest width and height of the crop, as fractions of the image's.
    """
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(flip),
            v2.RandomApply([RandomSizeCrop(min_crop)], crop),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(min_size=1, labels_getter=lambda inputs: inputs[2]),
        ]
    )


class RandomSizeCrop(v2.Transform):  # type: ignore[misc]
    """Crop to a random size at a random place, as in DETR's recipe (Carion et al., ECCV 2020, A.4).

    Args:
        min_scale: Smallest height and width, as fractions of the image's.
    """

    def __init__(self, min_scale: float) -> None:
        super().__init__()
        self.min_scale = min_scale

    def make_params(self, flat_inputs: list[object]) -> dict[str, int]:
        """Draw the crop: torch's generator, one call each for size and place."""
        canvas_height, canvas_width = v2.functional.get_size(flat_inputs[0])
        scales, place = torch.empty(2).uniform_(self.min_scale, 1).tolist(), torch.rand(2).tolist()
        height, width = max(1, round(canvas_height * scales[0])), max(1, round(canvas_width * scales[1]))
        top, left = int(place[0] * (canvas_height - height + 1)), int(place[1] * (canvas_width - width + 1))
        return {"top": top, "left": left, "height": height, "width": width}

    def transform(self, inpt: object, params: dict[str, int]) -> object:
        """Crop an image or boxes."""
        return self._call_kernel(F.crop, inpt, **params)


def draw_seed(entropy: Sequence[int]) -> int:
    """Return a 63-bit seed that is a hash of non-negative integers."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def normalise_boxes(boxes_xyxy: Tensor, height: float, width: float) -> Tensor:
    """Convert boxes (n, 4) from xyxy in pixels to cxcywh as fractions of a canvas."""
    x0, y0, x1, y1 = (boxes_xyxy / boxes_xyxy.new_tensor([width, height, width, height])).unbind(1)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=1)
