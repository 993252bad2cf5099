"""Make an update again that failed: its inputs as tensors under names, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp
from rfdetr_hwd.runtime.distributed import SharedError
from rfdetr_hwd.runtime.random_state import restore_random_state
from rfdetr_hwd.training.train_step import Criterion, MicroBatch, NonFiniteError, train_step


@dataclass(frozen=True)
class StoredBatch:
    """A micro-batch that was written and read back.

    Attributes:
        images: Shape (N, 3, R, R).
        targets: For each image `labels` (n,) and `boxes` (n, 4).
        image_ids: The dataset's own ids.
        is_counted: False: its loss is nought.
    """

    images: Tensor
    targets: list[dict[str, Tensor]]
    image_ids: tuple[int, ...]
    is_counted: bool

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device."""
        targets = [{key: value.to(device) for key, value in target.items()} for target in self.targets]
        return type(self)(self.images.to(device), targets, self.image_ids, self.is_counted)

    def cut(self, size: int) -> list[Self]:
        """Return the batch in parts of at most `size` images."""
        starts = range(0, len(self.image_ids), size)
        parts = [slice(start, start + size) for start in starts]
        return [type(self)(self.images[p], self.targets[p], self.image_ids[p], self.is_counted) for p in parts]


def inputs_of(micro_batches: Sequence[MicroBatch], rank: int) -> dict[str, Tensor]:
    """Return the micro-batches of a rank as tensors, by names that `stored_batches` reads."""
    tensors: dict[str, Tensor] = {}
    for index, batch in enumerate(micro_batches):
        prefix = f"{rank}/{index}"
        tensors[f"{prefix}/images"] = batch.images.detach().cpu().contiguous()
        tensors[f"{prefix}/image_ids"] = torch.tensor(batch.image_ids)
        tensors[f"{prefix}/is_counted"] = torch.tensor(batch.is_counted)
        for number, target in enumerate(batch.targets):
            for key, value in target.items():
                tensors[f"{prefix}/{number}/{key}"] = value.detach().cpu().clone().contiguous()
    return tensors


def stored_batches(tensors: Mapping[str, Tensor]) -> list[list[StoredBatch]]:
    """Return the micro-batches of each rank.

    Raises:
        KeyError: A tensor is missing.
        ValueError: A name is not one of `inputs_of`.
    """
    counts: dict[int, int] = {}
    for name in tensors:
        rank, index = map(int, name.split("/")[:2])
        counts[rank] = max(counts.get(rank, 0), index + 1)
    return [[_stored_batch(tensors, f"{rank}/{index}") for index in range(counts[rank])] for rank in sorted(counts)]


def _stored_batch(tensors: Mapping[str, Tensor], prefix: str) -> StoredBatch:
    image_ids = tuple(tensors[f"{prefix}/image_ids"].tolist())
    targets = [
        {key: tensors[f"{prefix}/{number}/{key}"] for key in ("labels", "boxes")} for number in range(len(image_ids))
    ]
    return StoredBatch(tensors[f"{prefix}/images"], targets, image_ids, bool(tensors[f"{prefix}/is_counted"]))


@dataclass(frozen=True)
class Outcome:
    """What came of one rank's part of an update.

    Attributes:
        terms: Loss terms.
        is_finite: Whether they and the gradient are finite.
        image_ids: Images with a term that is not finite.
    """

    terms: dict[str, float]
    is_finite: bool
    image_ids: tuple[int, ...] = ()


class _CountedLoss:
    """A loss normalised by the box count of the whole update, where one rank's part of it is made alone."""

    def __init__(self, criterion: Criterion, num_boxes: float) -> None:
        self.criterion, self.num_boxes = criterion, num_boxes

    def count_boxes(self, targets: list[dict[str, Tensor]]) -> int:
        return 1

    def __call__(
        self, outputs: Any, targets: list[dict[str, Tensor]], num_boxes: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self.criterion(outputs, targets, self.num_boxes)


def replay(
    network: nn.Module,
    criterion: Criterion,
    ranks: Sequence[Sequence[StoredBatch]],
    generators: Sequence[Mapping[str, Any]],
    args: HasAmp,
) -> list[Outcome]:
    """Make the passes of an update again, one rank after another in this process; the weights stay as they are.

    Args:
        network: With the weights from before the update, in training mode.
        criterion: Loss of float32 outputs.
        ranks: Micro-batches of each rank.
        generators: Random state of each rank at the start of the update.
        args: Precision, for `amp_context`.
    """
    counted = [batch for batches in ranks for batch in batches if batch.is_counted]
    num_boxes = max(1.0, float(sum(criterion.count_boxes(batch.targets) for batch in counted))) / len(ranks)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.0)
    outcomes = []
    for batches, generator in zip(ranks, generators, strict=True):
        restore_random_state(generator)
        try:
            result = train_step(network, _CountedLoss(criterion, num_boxes), batches, optimizer, args, clip=0.0)
        except NonFiniteError as error:
            (image_ids, terms), *_ = error.ranks
            outcomes.append(Outcome(terms, False, image_ids))
        except SharedError as error:
            raise error.original from None
        else:
            outcomes.append(Outcome({name: float(value) for name, value in result.terms.items()}, True))
    return outcomes
