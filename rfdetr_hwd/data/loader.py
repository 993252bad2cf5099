"""Serve batches whose content depends on (seed, epoch, image id) alone: not on workers, ranks or micro-batches.

An epoch can therefore be entered at any update, and the same images come in the same order with the same augmentation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rfdetr_hwd.data.source import DatasetError, DetectionData
from rfdetr_hwd.data.transforms import (
    ImageError,
    augment,
    build_augmentation,
    draw_seed,
    normalise_boxes,
    preprocess,
    read_image,
)
from rfdetr_hwd.data.worker_process import ignore_signals, undisturbed_context

_ORDER, _SCALE, _AUGMENT = 0, 1, 2  # streams of randomness, so that no two draws shard entropy


class SampleKey(NamedTuple):
    """What a dataset is asked for: an image, in an epoch, at a resolution; `is_counted` as in `Batch`."""

    row: int
    epoch: int
    resolution: int
    is_counted: bool = True


@dataclass(frozen=True)
class Batch:
    """Images of one forward pass.

    Attributes:
        images: Shape (N, 3, R, R), float32, normalised.
        targets: For each image `labels` (n,) int64 and `boxes` (n, 4) normalised cxcywh.
        image_ids: The dataset's own ids.
        sizes: Shape (N, 2), (height, width) in pixels of the images as they lie on disk.
        is_counted: False for a batch that only keeps a rank in step with the others: its loss is nought.
    """

    images: Tensor
    targets: list[dict[str, Tensor]]
    image_ids: tuple[int, ...]
    sizes: Tensor
    is_counted: bool = True

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


class DetectionDataset(Dataset[Batch | ImageError]):
    """Reads, augments and preprocesses one image at a time.

    Args:
        data: The annotations.
        augmentation: Random changes; `None` for evaluation.
    """

    def __init__(self, data: DetectionData, augmentation: Augmentation | None = None) -> None:
        self.data = data
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: SampleKey) -> Batch | ImageError:
        """Return a batch of one image, or why it cannot be read: an error raised in a worker would lose its message."""
        try:
            image = read_image(self.data.path(key.row))
        except ImageError as error:
            return error
        image_id = int(self.data.image_ids[key.row])
        annotated = tuple(self.data.sizes[key.row].tolist())
        if annotated != (image.height, image.width):
            height, width = annotated
            return ImageError(
                f"image {image_id} of {self.data.name} is annotated as {width}x{height} and decodes to "
                f"{image.width}x{image.height}: {self.data.path(key.row)}"
            )
        size = torch.tensor([[image.height, image.width]])
        boxes_xyxy, labels = (torch.from_numpy(array) for array in self.data.objects(key.row))
        if self.augmentation is not None:
            settings = self.augmentation
            transform = build_augmentation(settings.flip, settings.crop, settings.min_crop)
            entropy = (_AUGMENT, settings.seed, key.epoch, image_id % 2**64)
            image, boxes_xyxy, labels = augment(image, boxes_xyxy, labels, transform, entropy)
        target = {"labels": labels, "boxes": normalise_boxes(boxes_xyxy, image.height, image.width)}
        return Batch(preprocess(image, key.resolution)[None], [target], (image_id,), size, key.is_counted)


@dataclass(frozen=True)
class Shard:
    """The part of the work that is this process's."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class TrainOrder:
    """Which images make up each update of an epoch.

    Attributes:
        num_images: Images of the training split.
        batch_size: Images of an update, over all ranks.
        seed: Seed of order and scale.
        resolutions: Input sides to draw from, one for each update.
    """

    num_images: int
    batch_size: int
    seed: int
    resolutions: Sequence[int]

    @property
    def updates_per_epoch(self) -> int:
        """Updates of an epoch; the last may be smaller."""
        return -(-self.num_images // self.batch_size)

    def updates(self, epoch: int) -> list[list[SampleKey]]:
        """Return the images of each update of an epoch, in order."""
        order = np.random.default_rng([_ORDER, self.seed, epoch]).permutation(self.num_images).tolist()
        return [
            [
                SampleKey(image, epoch, resolution)
                for image in order[update * self.batch_size : (update + 1) * self.batch_size]
            ]
            for update in range(self.updates_per_epoch)
            for resolution in [self._resolution(epoch, update)]
        ]

    def _resolution(self, epoch: int, update: int) -> int:
        return self.resolutions[draw_seed((_SCALE, self.seed, epoch, update)) % len(self.resolutions)]


class TrainLoader:
    """Serves the updates of an epoch as lists of micro-batches.

    Args:
        dataset: The training images.
        order: Which images make up an update.
        micro_batch: Images of one forward pass; `None`: the whole shard of this process.
        workers: Loader processes.
        shard: This process's part of each update.
    """

    def __init__(
        self, dataset: DetectionDataset, order: TrainOrder, micro_batch: int | None, workers: int, shard: Shard
    ) -> None:
        self.dataset, self.order = dataset, order
        self.micro_batch, self.workers, self.shard = micro_batch, workers, shard

    @property
    def updates_per_epoch(self) -> int:
        """Updates of an epoch."""
        return self.order.updates_per_epoch

    def epoch(self, epoch: int, first_update: int = 0) -> Iterator[list[Batch]]:
        """Yield the micro-batches of each update of an epoch, from `first_update` on.

        Raises:
            DatasetError: An image cannot be read.
        """
        plan = [self._micro_batches(update) for update in self.order.updates(epoch)[first_update:]]
        batches = iter(_data_loader(self.dataset, [keys for update in plan for keys in update], self.workers))
        for update in plan:
            yield [_checked(next(batches)) for _ in update]

    def _micro_batches(self, update: list[SampleKey]) -> list[list[SampleKey]]:
        # A rank left without an image of the last, small update works on one that does not count.
        mine = update[self.shard.rank :: self.shard.world_size] or [update[0]._replace(is_counted=False)]
        size = self.micro_batch or len(mine)
        return [mine[start : start + size] for start in range(0, len(mine), size)]


class EvalLoader:
    """Serves every image of a split once, shared among the processes.

    Args:
        dataset: The images, without augmentation.
        resolution: Input side.
        batch_size: Images of one forward pass.
        workers: Loader processes.
        shard: This process's part.
    """

    def __init__(self, dataset: DetectionDataset, resolution: int, batch_size: int, workers: int, shard: Shard) -> None:
        indices = range(len(dataset))[shard.rank :: shard.world_size]
        keys = [SampleKey(index, 0, resolution) for index in indices]
        self.batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
        self.dataset, self.workers = dataset, workers

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order.

        Raises:
            DatasetError: An image cannot be read.
        """
        yield from map(_checked, _data_loader(self.dataset, self.batches, self.workers))


def multi_scale_resolutions(resolution: int, step: int) -> list[int]:
    """Return upstream's range of training resolutions: five steps down to five steps up, at least two steps.

    Args:
        resolution: The input side in pixels.
        step: Pixels that a side must be a multiple of.
    """
    return [side for side in range(resolution - 5 * step, resolution + 6 * step, step) if side >= 2 * step]


def _data_loader(
    dataset: DetectionDataset, batches: list[list[SampleKey]], workers: int
) -> "DataLoader[Batch | ImageError]":
    return DataLoader(
        dataset,
        batch_sampler=batches,  # keys, where torch expects whole numbers
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=undisturbed_context() if workers else None,
        worker_init_fn=ignore_signals,
        generator=torch.Generator(),  # or each new iterator would draw from the generator that dropout draws from
    )


def _collate(items: list[Batch | ImageError]) -> Batch | ImageError:
    for item in items:
        if isinstance(item, ImageError):
            return item
    batches = [item for item in items if isinstance(item, Batch)]
    return Batch(
        images=torch.cat([batch.images for batch in batches]),
        targets=[target for batch in batches for target in batch.targets],
        image_ids=tuple(image_id for batch in batches for image_id in batch.image_ids),
        sizes=torch.cat([batch.sizes for batch in batches]),
        is_counted=all(batch.is_counted for batch in batches),
    )


def _checked(batch: Batch | ImageError) -> Batch:
    if isinstance(batch, ImageError):
        raise DatasetError(str(batch))
    return batch
