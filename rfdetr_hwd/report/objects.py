"""The objects of a split as arrays, and their statistics."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.data.annotations import DetectionData

COCO_SIDES = (32.0, 96.0)
"""Bounds in pixels between COCO's small, medium and large objects; see `Objects.sides`."""

ASPECT_LIMIT, ASPECT_STEPS = 3, 4  # octaves in both directions, bins per octave
_POSITION_CELLS = 20  # cells per axis


@dataclass(frozen=True)
class Objects:
    """The objects that a split is trained on, one per row: clipped to the image, without crowds and empty boxes.

    Attributes:
        class_names: Class names in label order.
        image_sizes: Shape (N, 2), (height, width) in pixels.
        image_rows: Shape (M,), the image of each object.
        labels: Shape (M,).
        boxes_xyxy: Shape (M, 4) float64, in pixels.
        num_ignored: Annotations that are skipped.
    """

    class_names: tuple[str, ...]
    image_sizes: NDArray[np.int64]
    image_rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes_xyxy: NDArray[np.float64]
    num_ignored: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def per_class(self) -> NDArray[np.int64]:
        """Objects of each class."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    @property
    def per_image(self) -> NDArray[np.int64]:
        """Objects in each image."""
        return np.bincount(self.image_rows, minlength=len(self.image_sizes))

    @property
    def sides(self) -> NDArray[np.float64]:
        """Square root of each box's area, in pixels of the image as it lies on disk."""
        sides: NDArray[np.float64] = np.sqrt((self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]).prod(axis=1))
        return sides

    @property
    def relative_sizes(self) -> NDArray[np.float64]:
        """Size of each object relative to its image: square root of the area ratio, in percent."""
        relative_sizes: NDArray[np.float64] = 100 * self.sides / np.sqrt(self.image_sizes[self.image_rows].prod(axis=1))
        return relative_sizes

    @property
    def centres(self) -> NDArray[np.float64]:
        """Centre (x, y) of each box in percent of the image's width and height."""
        middle = (self.boxes_xyxy[:, 2:] + self.boxes_xyxy[:, :2]) / 2
        return 100 * middle / self.image_sizes[self.image_rows][:, ::-1]

    @property
    def aspect_ratios(self) -> NDArray[np.float64]:
        """Width of each box over its height."""
        extents = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]
        return extents[:, 0] / extents[:, 1]

    def input_sides(self, resolution: int, keeps_aspect: bool) -> NDArray[np.float64]:
        """Return the sizes of the objects in pixels of the model's input, without augmentation.

        Args:
            resolution: Input resolution of the model in pixels.
            keeps_aspect: Whether images keep their aspect ratio (letterbox), instead of being stretched.
        """
        longest = self.image_sizes[self.image_rows].max(axis=1)
        return self.sides * resolution / longest if keeps_aspect else self.relative_sizes * resolution / 100

    def input_extents(self, resolution: int, keeps_aspect: bool) -> NDArray[np.float64]:
        """Return width and height of the objects in pixels of the model's input, shape (M, 2); see `input_sides`."""
        widths_heights = self.image_sizes[self.image_rows][:, ::-1].astype(np.float64)
        scale = resolution / (widths_heights.max(axis=1, keepdims=True) if keeps_aspect else widths_heights)
        extents: NDArray[np.float64] = (self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]) * scale
        return extents


def collect_objects(data: DetectionData) -> Objects:
    """Gather the objects of a split as training gets them."""
    found = [data.objects(row) for row in range(len(data.sizes))]
    labels = np.concatenate([np.zeros(0, dtype=np.int64), *(labels for _, labels in found)])
    return Objects(
        class_names=data.class_names,
        image_sizes=data.sizes,
        image_rows=np.repeat(np.arange(len(found)), [len(labels) for _, labels in found]),
        labels=labels,
        boxes_xyxy=np.concatenate([np.zeros((0, 4)), *(boxes for boxes, _ in found)]),
        num_ignored=len(data.labels) - len(labels),
    )


def side_edges(sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return bin edges in pixels that cover all sizes, logarithmic, with eight bins from 32 to 96."""
    steps = 8 * np.log(np.append(sides, 32) / 32) / np.log(3)
    first, last = min(-8, int(np.floor(steps.min()))), max(16, int(np.floor(steps.max())) + 1)
    edges: NDArray[np.float64] = 32.0 * 3.0 ** (np.arange(first, last + 1) / 8)
    return edges


def count_sizes(sides: NDArray[np.float64]) -> tuple[int, int, int]:
    """Return how many objects are small (size below 32 pixels), medium and large (96 and above)."""
    small, medium, large = np.bincount(np.digitize(sides, COCO_SIDES), minlength=3).tolist()
    return small, medium, large


def count_aspect_ratios(ratios: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return bin edges as powers of 2, a quarter octave wide and one around 1, and counts. The outer bins are open."""
    half = ASPECT_LIMIT * ASPECT_STEPS
    edges = (np.arange(-half, half + 2) - 0.5) / ASPECT_STEPS
    return edges, np.histogram(np.clip(np.log2(ratios), -ASPECT_LIMIT, ASPECT_LIMIT), edges)[0]


def count_positions(centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the objects whose centre lies in each of 20 x 20 equal cells of the image, rows from the top."""
    cells = _POSITION_CELLS
    counts = np.histogram2d(centres[:, 1], centres[:, 0], bins=cells, range=((0, 100), (0, 100)))[0]
    return counts.astype(np.int64)


def count_per_image(per_image: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return bin edges, each a whole number minus a half, and counts of images. There are about 40 bins at most."""
    most = int(per_image.max(initial=0))
    step = most // 40 + 1
    edges = np.arange(0, most + step + 1, step, dtype=np.float64) - 0.5
    return edges, np.histogram(per_image, edges)[0]
