"""Batches of images and targets, for training, evaluation and replay."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import PIL.Image
import torch
from torch import Tensor

from rfdetr_hwd.data.transforms import Resize, decoding_sizes, fit_image, fitted_size, normalise


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
class PackedTargets:
    """The objects of all images of a batch in two tensors, image after image.

    Attributes:
        labels: Shape (M,) int64.
        boxes: Shape (M, 4), normalised cxcywh.
        counts: Objects of each image; their sum is M.
    """

    labels: Tensor
    boxes: Tensor
    counts: tuple[int, ...]

    @classmethod
    def pack(cls, targets: Iterable[Mapping[str, Tensor]]) -> Self:
        """Return the `labels` (n,) and `boxes` (n, 4) of each image as packed targets."""
        labels, boxes = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0, 4)]
        for target in targets:
            labels.append(target["labels"])
            boxes.append(target["boxes"])
        return cls(torch.cat(labels), torch.cat(boxes), tuple(map(len, labels[1:])))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return the targets of several batches as those of one."""
        labels, boxes = torch.cat([part.labels for part in parts]), torch.cat([part.boxes for part in parts])
        return cls(labels, boxes, tuple(count for part in parts for count in part.counts))

    def unpack(self) -> list[dict[str, Tensor]]:
        """Return `labels` (n,) and `boxes` (n, 4) of each image, as views."""
        parts = zip(self.labels.split(self.counts), self.boxes.split(self.counts), strict=True)
        return [{"labels": labels, "boxes": boxes} for labels, boxes in parts]

    def part(self, start: int, stop: int) -> "PackedTargets":
        """Return the targets of the images from `start` to before `stop`, as views."""
        offsets = [0, *itertools.accumulate(self.counts)]
        objects = slice(offsets[min(start, len(self.counts))], offsets[min(stop, len(self.counts))])
        return PackedTargets(self.labels[objects], self.boxes[objects], self.counts[start:stop])

    def apply(self, change: Callable[[Tensor], Tensor]) -> "PackedTargets":
        """Return the targets with both tensors changed."""
        return replace(self, labels=change(self.labels), boxes=change(self.boxes))


@dataclass(frozen=True)
class Batch:
    """Images with their objects: the per-rank batch of an optimizer step, or the batch of one forward pass.

    Attributes:
        images: Shape (N, 3, R, R). From a data loader uint8; from `to` float32, normalised.
        packed: The objects of each image.
        image_ids: The dataset's own ids.
        sizes: Shape (N, 2, 2) float32, each (height, width) in pixels of the image as it is read: of the model's
            square, which turns normalised boxes into boxes in that image, and of the image.
        is_padding: Whether it only keeps a rank in sync with the others: its loss is zero.
        bad: Images that could not be read: replaced in training, skipped in evaluation.
        fitted: (height, width) in pixels that each image has within the square; empty if all fill it.
    """

    images: Tensor
    packed: PackedTargets
    image_ids: tuple[int, ...]
    sizes: Tensor
    is_padding: bool = False
    bad: tuple[BadImage, ...] = ()
    fitted: tuple[tuple[int, int], ...] = ()

    @property
    def targets(self) -> list[dict[str, Tensor]]:
        """For each image `labels` (n,) int64 and `boxes` (n, 4) normalised cxcywh."""
        return self.packed.unpack()

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device, with normalised images."""
        images, sizes = (tensor.to(device, non_blocking=True) for tensor in (self.images, self.sizes))
        if images.dtype == torch.uint8:  # a quarter of the bytes travel
            images = normalise(images, self.fitted)
        packed = self.packed.apply(lambda tensor: tensor.to(device, non_blocking=True))
        return replace(self, images=images, packed=packed, sizes=sizes)

    def split(self, size: int) -> list["Batch"]:
        """Return the batch in parts of at most `size` images."""
        return [
            replace(
                self,
                images=self.images[start : start + size],
                packed=self.packed.part(start, start + size),
                image_ids=self.image_ids[start : start + size],
                sizes=self.sizes[start : start + size],
                fitted=self.fitted[start : start + size],
            )
            for start in range(0, len(self.image_ids), size)
        ]

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; the loader calls it."""
        packed = self.packed.apply(lambda tensor: tensor.pin_memory())
        return replace(self, images=self.images.pin_memory(), packed=packed, sizes=self.sizes.pin_memory())


def collate(items: list[Batch | Failure]) -> Batch | Failure:
    """Join batches. If one is a failure, return it."""
    for item in items:
        if isinstance(item, Failure):
            return item
    return join([item for item in items if isinstance(item, Batch)])


def join(batches: Sequence[Batch]) -> Batch:
    """Return several batches as one."""
    channels_last = torch.cat([batch.images.permute(0, 2, 3, 1) for batch in batches])  # as decoded: a plain copy
    return Batch(
        images=channels_last.permute(0, 3, 1, 2),
        packed=PackedTargets.join([batch.packed for batch in batches]),
        image_ids=tuple(image_id for batch in batches for image_id in batch.image_ids),
        sizes=torch.cat([batch.sizes for batch in batches]),
        is_padding=any(batch.is_padding for batch in batches),
        bad=tuple(bad for batch in batches for bad in batch.bad),
        fitted=tuple(size for batch in batches for size in batch.fitted),
    )


def unlabelled(image: PIL.Image.Image, resolution: int, resize: Resize) -> Batch:
    """Return an RGB image without targets as a batch of one; see `rfdetr_hwd.data.transforms.fit_image`."""
    form = image.height, image.width, resolution, resize
    nothing = PackedTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), (0,))
    pixels, sizes = fit_image(image, resolution, resize)[None], decoding_sizes(*form)[None]
    return Batch(pixels, nothing, (0,), sizes, fitted=(fitted_size(*form),))
