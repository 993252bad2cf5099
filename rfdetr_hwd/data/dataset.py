"""Turn one image of a split into a sample: read, augmented, resized; an unreadable one is replaced or left out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.images import ImageError
from rfdetr_hwd.data.transforms import (
    Resize,
    augment,
    build_augmentation,
    canvas_size,
    decoding_sizes,
    draw_seed,
    normalise_boxes,
    preprocess,
)

ORDER, SCALE, AUGMENT, REPLACE, FILL = 0, 1, 2, 3, 4
"""Streams of randomness, so that no two draws share entropy."""
_MAX_REPLACEMENTS = 20


class SampleKey(NamedTuple):
    """What a dataset is asked for.

    Attributes:
        row: The image.
        epoch: The epoch.
        resolution: Side of the model's square in pixels.
        is_counted: As in `Batch`.
        visit: How often the epoch has had the image before; each time it is augmented otherwise.
    """

    row: int
    epoch: int
    resolution: int
    is_counted: bool = True
    visit: int = 0


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be used.

    Attributes:
        image_id: The dataset's own id.
        path: Where it lies.
        reason: Why.
    """

    image_id: int
    path: str
    reason: str


@dataclass(frozen=True)
class Failure:
    """A sample that cannot be made, and why: raised in a loader process, an error would lose its message."""

    reason: str


@dataclass(frozen=True)
class Batch:
    """Images of one forward pass.

    Attributes:
        images: Shape (N, 3, R, R), float32, normalised.
        targets: For each image `labels` (n,) int64 and `boxes` (n, 4) normalised cxcywh.
        image_ids: The dataset's own ids.
        sizes: Shape (N, 2, 2) float32, each (height, width) in pixels of the image as it is read: of the model's
            square, which turns normalised boxes into boxes in that image, and of the image.
        is_counted: False for a batch that only keeps a rank in step with the others: its loss is nought.
        bad: Images that could not be read: replaced in training, left out in evaluation.
    """

    images: Tensor
    targets: list[dict[str, Tensor]]
    image_ids: tuple[int, ...]
    sizes: Tensor
    is_counted: bool = True
    bad: tuple[BadImage, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        targets = [{k: v.to(device, non_blocking=True) for k, v in target.items()} for target in self.targets]
        images, sizes = (tensor.to(device, non_blocking=True) for tensor in (self.images, self.sizes))
        return replace(self, images=images, targets=targets, sizes=sizes)

    def cut(self, size: int) -> list["Batch"]:
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


@dataclass(frozen=True)
class Augmentation:
    """Settings of the random changes; see `rfdetr_hwd.data.transforms.build_augmentation`."""

    seed: int
    flip: float
    crop: float
    min_crop: float


class DetectionDataset(Dataset[Batch | Failure]):
    """Reads, augments and preprocesses one image at a time.

    Args:
        data: The annotations.
        augmentation: Random changes; `None` for evaluation.
        resize: How an image is fitted into the model's square.
        on_bad_image: `quarantine` replaces an unreadable image in training by one that is drawn from (seed, epoch,
            image id), and leaves it out in evaluation; `fail` makes it an error.
    """

    def __init__(
        self,
        data: DetectionData,
        augmentation: Augmentation | None = None,
        resize: Resize = "stretch",
        on_bad_image: Literal["quarantine", "fail"] = "fail",
    ) -> None:
        self.data, self.augmentation = data, augmentation
        self.resize, self.on_bad_image = resize, on_bad_image

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: SampleKey) -> Batch | Failure:
        """Return a batch of one image; of none, where it is left out."""
        bad: list[BadImage] = []
        for row in self._rows(key):
            try:
                return replace(self._load(row, key), bad=tuple(bad))
            except ImageError as error:
                bad.append(BadImage(int(self.data.image_ids[row]), str(self.data.path(row)), str(error)))
                if self.on_bad_image == "fail":
                    return Failure(f"{self._name(row)}: {error}")
            except Exception as error:
                return Failure(f"{self._name(row)}: {error!r}")
        if self.augmentation is not None:
            return Failure(f"{len(bad)} images in a row cannot be read, the last: {bad[-1].reason}")
        side = key.resolution
        return Batch(torch.empty(0, 3, side, side), [], (), torch.empty(0, 2, 2), key.is_counted, tuple(bad))

    def _name(self, row: int) -> str:
        return f"image {self.data.image_ids[row]} of {self.data.name}"

    def _rows(self, key: SampleKey) -> Iterator[int]:
        """Yield the image, and in training those that would replace it."""
        yield key.row
        if self.augmentation is not None:
            image_id = int(self.data.image_ids[key.row]) % 2**64
            for attempt in range(_MAX_REPLACEMENTS):
                entropy = (REPLACE, self.augmentation.seed, key.epoch, image_id, attempt)
                yield draw_seed(entropy) % len(self.data)

    def _load(self, row: int, key: SampleKey) -> Batch:
        image, image_id = self.data.read(row), int(self.data.image_ids[row])
        sizes = decoding_sizes(image.height, image.width, key.resolution, self.resize)
        boxes_xyxy, labels = (torch.from_numpy(array) for array in self.data.objects(row))
        if self.augmentation is not None:
            settings = self.augmentation
            transform = build_augmentation(settings.flip, settings.crop, settings.min_crop)
            again = (key.visit,) if key.visit else ()
            entropy = (AUGMENT, settings.seed, key.epoch, image_id % 2**64, *again)
            image, boxes_xyxy, labels = augment(image, boxes_xyxy, labels, transform, entropy)
        canvas = canvas_size(image.height, image.width, key.resolution, self.resize)
        target = {"labels": labels, "boxes": normalise_boxes(boxes_xyxy, *canvas)}
        pixels = preprocess(image, key.resolution, self.resize)[None]
        return Batch(pixels, [target], (image_id,), torch.tensor([sizes]), key.is_counted)


def collate(items: list[Batch | Failure]) -> Batch | Failure:
    """Join batches; one failure is the failure of all."""
    for item in items:
        if isinstance(item, Failure):
            return item
    batches = [item for item in items if isinstance(item, Batch)]
    return Batch(
        images=torch.cat([batch.images for batch in batches]),
        targets=[target for batch in batches for target in batch.targets],
        image_ids=tuple(image_id for batch in batches for image_id in batch.image_ids),
        sizes=torch.cat([batch.sizes for batch in batches]),
        is_counted=all(batch.is_counted for batch in batches),
        bad=tuple(bad for batch in batches for bad in batch.bad),
    )
