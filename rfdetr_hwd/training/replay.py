"""Replay a failed step: store its inputs as named tensors, read them back, and repeat its passes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp
from rfdetr_hwd.checkpoint.read import CheckpointError
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.schema import NonFinitePart, Record
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.data.batch import Batch, PackedTargets
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.distributed import SharedError
from rfdetr_hwd.runtime.random_state import restore_random_state
from rfdetr_hwd.training.non_finite import NonFiniteError
from rfdetr_hwd.training.train_step import Totals, TrainStep, count

logger = logging.getLogger(__name__)


def inputs_of(micro_batches: Sequence[Batch], rank: int) -> dict[str, Tensor]:
    """Return the micro-batches of a rank as tensors, by names that `stored_batches` reads."""
    tensors: dict[str, Tensor] = {}
    for index, batch in enumerate(micro_batches):
        prefix = f"{rank}/{index}"
        seen = batch.to(torch.device("cpu")).images
        tensors[f"{prefix}/images"] = seen.detach().clone().contiguous()  # as the network saw them
        tensors[f"{prefix}/image_ids"] = torch.tensor(batch.image_ids)
        tensors[f"{prefix}/is_counted"] = torch.tensor(not batch.is_padding)  # the name in existing bundles
        for number, target in enumerate(batch.targets):
            for key, value in target.items():
                tensors[f"{prefix}/{number}/{key}"] = value.detach().cpu().clone().contiguous()
    return tensors


def write_bundle(
    folder: RunFolder,
    state: TrainState,
    record: Record,
    network: nn.Module,
    error: NonFiniteError,
) -> None:
    """Write the bundle that reproduces a failed step: its inputs on every rank, weights and random states.

    Args:
        folder: Directory of the run. Every rank calls this in the same place. Rank 0 writes.
        state: State before the step.
        record: Record of a checkpoint, see `describe_model`.
        network: With the weights from before the step.
        error: The failure, with what this rank put into the step.
    """
    # Every rank sends its part.
    suspects = error.suspects
    ranks = distributed.gather_objects((inputs_of(suspects.micro_batches, distributed.rank()), suspects.random))
    if distributed.is_main():
        inputs = {name: tensor for tensors, _ in ranks for name, tensor in tensors.items()}
        training = {"random": [random_of_rank for _, random_of_rank in ranks]}
        found = tuple(
            NonFinitePart(image_ids=image_ids, terms={name: repr(value) for name, value in terms.items()})
            for image_ids, terms in error.ranks
        )
        weights = {"raw": network.state_dict()}
        try:
            folder.save_bundle(state, record.model_copy(update={"non_finite": found}), weights, training, inputs)
        except CheckpointError as failure:  # which must not hide why the run stops
            logger.warning("the step was not saved for a replay: %s", failure)
    distributed.barrier()


def stored_batches(tensors: Mapping[str, Tensor]) -> list[list[Batch]]:
    """Return the micro-batches of each rank.

    Raises:
        KeyError: A tensor is missing.
        ValueError: A name is not from `inputs_of`.
    """
    counts: dict[int, int] = {}
    for name in tensors:
        rank, index = map(int, name.split("/")[:2])
        counts[rank] = max(counts.get(rank, 0), index + 1)
    return [[_stored_batch(tensors, f"{rank}/{index}") for index in range(counts[rank])] for rank in sorted(counts)]


def _stored_batch(tensors: Mapping[str, Tensor], prefix: str) -> Batch:
    image_ids = tuple(tensors[f"{prefix}/image_ids"].tolist())
    targets = [
        {key: tensors[f"{prefix}/{number}/{key}"] for key in ("labels", "boxes")} for number in range(len(image_ids))
    ]
    no_sizes = torch.zeros(len(image_ids), 2, 2)  # the loss does not use them
    is_padding = not bool(tensors[f"{prefix}/is_counted"])
    return Batch(tensors[f"{prefix}/images"], PackedTargets.pack(targets), image_ids, no_sizes, is_padding)


@dataclass(frozen=True)
class Outcome:
    """The result of one rank's part of a step.

    Attributes:
        terms: Loss terms.
        is_finite: Whether they and the gradient are finite.
        image_ids: Images with a term that is not finite.
    """

    terms: dict[str, float]
    is_finite: bool
    image_ids: tuple[int, ...] = ()


def replay(
    network: nn.Module,
    criterion: DetectionLoss,
    ranks: Sequence[Sequence[Batch]],
    generators: Sequence[Mapping[str, Any]],
    args: HasAmp,
) -> list[Outcome]:
    """Repeat the passes of a step, one rank after another in this process. The weights are unchanged.

    Args:
        network: With the weights from before the step, in training mode.
        criterion: Loss of float32 outputs.
        ranks: Micro-batches of each rank.
        generators: Random state of each rank at the start of the step.
        args: Precision, for `amp_context`.
    """
    # Normalise by the boxes of all ranks, as the step did.
    totals = Totals.over([count(criterion, batches) for batches in ranks])
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.0, fused=True)
    outcomes = []
    for batches, generator in zip(ranks, generators, strict=True):
        # Each rank begins with the random state that it had.
        restore_random_state(generator)
        try:
            step = TrainStep(network, criterion, optimizer, args, clip=0.0)
            result = step(batches, totals)
            step.settle()
        except NonFiniteError as error:
            (image_ids, terms), *_ = error.ranks
            outcomes.append(Outcome(terms, False, image_ids))
        except SharedError as error:
            raise error.original from None
        else:
            outcomes.append(Outcome({name: float(value) for name, value in result.terms.items()}, True))
    return outcomes
