"""Batches of images and targets, for training, evaluation and replay."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be used.

    Attributes:
        image_id: The dataset's own id.
        path: Its path.
        reason: Why it cannot be used.
    """

    image_id: int
    path: str
    reason: str


@dataclass(frozen=True)
class Failure:
    """A sample that could not be made, with the reason: an error in a data loader worker would lose its message."""

    reason: str


@dataclass(frozen=True)
class Batch:
    """Images with their objects: the per-rank batch of an optimizer step, or the batch of one forward pass.

    Attributes:
        images: Shape (N, 3, R, R), float32, normalised.
        targets: For each image `labels` (n,) int64 and `boxes` (n, 4) normalised cxcywh.
        image_ids: The dataset's own ids.
        sizes: Shape (N, 2, 2) float32, each (height, width) in pixels of the image as it is read: of the model's
            square, which turns normalised boxes into boxes in that image, and of the image.
        is_padding: Whether it only keeps a rank in sync with the others: its loss is zero.
        bad: Images that could not be read: replaced in training, skipped in evaluation.
    """

    images: Tensor
    targets: list[dict[str, Tensor]]
    image_ids: tuple[int, ...]
    sizes: Tensor
    is_padding: bool = False
    bad: tuple[BadImage, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        targets = [{k: v.to(device, non_blocking=True) for k, v in target.items()} for target in self.targets]
        images, sizes = (tensor.to(device, non_blocking=True) for tensor in (self.images, self.sizes))
        return replace(self, images=images, targets=targets, sizes=sizes)

    def split(self, size: int) -> list["Batch"]:
        """Return the batch in parts of at most `size` images."""
        return [
            replace(
                self,
                images=self.images[start : start + size],
                targets=self.targets[start : start + size],
                image_ids=self.image_ids[start : start + size],
                sizes=self.sizes[start : start + size],
            )
            for start in range(0, len(self.image_ids), size)
        ]

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; the loader calls it."""
        targets = [{k: v.pin_memory() for k, v in target.items()} for target in self.targets]
        return replace(self, images=self.images.pin_memory(), targets=targets, sizes=self.sizes.pin_memory())


def collate(items: list[Batch | Failure]) -> Batch | Failure:
    """Join batches. If one is a failure, return it."""
    for item in items:
        if isinstance(item, Failure):
            return item
    batches = [item for item in items if isinstance(item, Batch)]
    return Batch(
        images=torch.cat([batch.images for batch in batches]),
        targets=[target for batch in batches for target in batch.targets],
        image_ids=tuple(image_id for batch in batches for image_id in batch.image_ids),
        sizes=torch.cat([batch.sizes for batch in batches]),
        is_padding=any(batch.is_padding for batch in batches),
        bad=tuple(bad for batch in batches for bad in batch.bad),
    )
