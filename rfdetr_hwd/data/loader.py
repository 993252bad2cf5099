"""Serve batches whose content depends on (seed, epoch, image id) alone: not on workers, ranks or micro-batches.

An epoch can therefore be entered at any step, and the same images come in the same order with the same augmentation.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rfdetr_hwd.data.augmentation import draw_seed
from rfdetr_hwd.data.batch import BadImage, Batch
from rfdetr_hwd.data.corruptions import Corruption
from rfdetr_hwd.data.dataset import FILL, ORDER, SCALE, DetectionDataset, SampleKey
from rfdetr_hwd.data.sampling import Sampler
from rfdetr_hwd.data.shared_memory import batch_bytes
from rfdetr_hwd.data.workers import WorkerPool, Workers


@dataclass(frozen=True)
class Partition:
    """The part of the work that is this process's."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class TrainOrder:
    """Which images make up each step of an epoch.

    Attributes:
        num_images: Images of an epoch: those of the training split, or as many as the sampler draws.
        batch_size: Images of a step, over all ranks.
        seed: Seed of order and scale.
        resolutions: Input resolutions to draw from, one for each step.
        last_batch: Treatment of an incomplete last batch: `keep` makes a smaller step of it, `drop` skips it, `fill`
            completes it with other images.
        sampler: Draws the images of an epoch; `None`: each image once.
    """

    num_images: int
    batch_size: int
    seed: int
    resolutions: Sequence[int]
    last_batch: Literal["keep", "drop", "fill"] = "fill"
    sampler: Sampler | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        whole, left = divmod(self.num_images, self.batch_size)
        return whole + (left > 0 and self.last_batch != "drop")

    def steps(self, epoch: int) -> list[list[SampleKey]]:
        """Return the images of each step of an epoch, in order."""
        if self.sampler is not None:
            visits = _count_visits(self.sampler.draw(epoch))
        else:
            order = np.random.default_rng([ORDER, self.seed, epoch]).permutation(self.num_images).tolist()
            visits = [(image, 0) for image in order] + (self._fill(epoch, order) if self.last_batch == "fill" else [])
        return [
            [
                SampleKey(image, epoch, resolution, visit=visit)
                for image, visit in visits[step * self.batch_size : (step + 1) * self.batch_size]
            ]
            for step in range(self.steps_per_epoch)
            for resolution in [self._resolution(epoch, step)]
        ]

    def _fill(self, epoch: int, order: Sequence[int]) -> list[tuple[int, int]]:
        """Return (image, visits before) of what completes the last batch of an epoch: images of the batches before it.

        None comes twice, unless the split is smaller than a batch: then all of it comes again, as often as it takes.
        """
        left = self.num_images % self.batch_size
        if not left:
            return []
        candidates, missing = order[:-left] or order, self.batch_size - left
        generator = np.random.default_rng([FILL, self.seed, epoch])
        visits = range(1, 1 + -(-missing // len(candidates)))
        return [(image, visit) for visit in visits for image in generator.permutation(candidates).tolist()][:missing]

    def _resolution(self, epoch: int, step: int) -> int:
        return self.resolutions[draw_seed((SCALE, self.seed, epoch, step)) % len(self.resolutions)]


def _count_visits(order: Sequence[int]) -> list[tuple[int, int]]:
    """Return each image of an epoch with how often it came before."""
    seen: Counter[int] = Counter()
    visits = []
    for image in order:
        visits.append((image, seen[image]))
        seen[image] += 1
    return visits


class TrainLoader:
    """Serves the steps of an epoch, each as the per-rank batch of this process.

    Args:
        dataset: The training images.
        order: Which images make up a step.
        workers: Data loader workers, which serve all epochs.
        partition: This process's part of each step.
        report: Told of each image that was replaced because it cannot be read.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        order: TrainOrder,
        workers: Workers,
        partition: Partition,
        report: Callable[[BadImage], None],
    ) -> None:
        self.dataset, self.order = dataset, order
        self.workers, self.partition, self.report = workers, partition, report
        self._pool = WorkerPool(dataset, workers)

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.order.steps_per_epoch

    @property
    def largest_batch(self) -> int:
        """Bytes of the images of this process's largest batch."""
        per_rank = -(-self.order.batch_size // self.partition.world_size)
        return batch_bytes(per_rank, max(self.order.resolutions))

    def drawn(self, epoch: int) -> dict[str, float]:
        """Return what an epoch draws, by name; nothing if it has every image once. See `Sampler.count`."""
        return self.order.sampler.count(epoch) if self.order.sampler is not None else {}

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Yield the per-rank batch of each step of an epoch, from `first_step` on.

        Raises:
            DatasetError: A sample cannot be made, or a data loader worker died or hangs.
        """
        batches = [self._rank_batch(step) for step in self.order.steps(epoch)[first_step:]]
        for batch in self._pool.serve(batches):
            for bad in batch.bad:
                self.report(bad)
            yield batch

    def _rank_batch(self, step: list[SampleKey]) -> list[SampleKey]:
        # A rank left without an image of the last, small step works on one that does not count.
        return step[self.partition.rank :: self.partition.world_size] or [step[0]._replace(is_padding=True)]


class EvalLoader:
    """Serves every image of a split once, shared among the processes.

    Args:
        dataset: The images, without augmentation.
        resolution: Input resolution.
        batch_size: Images of one forward pass.
        workers: Data loader workers.
        partition: This process's part.
        report: Told of each image that is skipped because it cannot be read.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        resolution: int,
        batch_size: int,
        workers: Workers,
        partition: Partition,
        report: Callable[[BadImage], None],
    ) -> None:
        indices = range(len(dataset))[partition.rank :: partition.world_size]
        keys = [SampleKey(index, 0, resolution) for index in indices]
        self.batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
        self.dataset, self.resolution, self.report = dataset, resolution, report
        self._pool = WorkerPool(dataset, workers)

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def largest_batch(self) -> int:
        """Bytes of the images of the largest batch."""
        return batch_bytes(max(map(len, self.batches), default=0), self.resolution)

    def corrupted(self, corruption: Corruption) -> "EvalLoader":
        """Return a loader of the same images, corrupted, by the same data loader workers."""
        other = copy.copy(self)
        other.batches = [[key._replace(corruption=corruption) for key in batch] for batch in self.batches]
        return other

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches in order.

        Raises:
            DatasetError: A sample cannot be made, or a data loader worker died or hangs.
        """
        for batch in self._pool.serve(self.batches):
            for bad in batch.bad:
                self.report(bad)
            if batch.image_ids:
                yield batch


def multi_scale_resolutions(resolution: int, step: int) -> list[int]:
    """Return upstream's range of training resolutions: five steps down to five steps up, at least two steps.

    Args:
        resolution: The input resolution in pixels.
        step: Pixels that a resolution must be a multiple of.
    """
    return [size for size in range(resolution - 5 * step, resolution + 6 * step, step) if size >= 2 * step]
