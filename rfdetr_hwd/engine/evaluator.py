"""One pass over a dataset that measures a network, and leaves everything as it was."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.engine.distributed import broadcast_object, gather_objects, is_main, max_over_ranks
from rfdetr_hwd.engine.interrupt import StopRequest
from rfdetr_hwd.errors import Interrupted


class EvalBatch(Protocol):
    """Images with the sizes that boxes are decoded to."""

    @property
    def images(self) -> Tensor: ...
    @property
    def image_ids(self) -> tuple[int, ...]: ...
    @property
    def sizes(self) -> Tensor: ...
    def to(self, device: torch.device) -> Self: ...
    def cut(self, size: int) -> list[Self]: ...


class EvalBatches(Protocol):
    """This process's share of the images, each once."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[EvalBatch]: ...


class Metric(Protocol):
    """Collects results of batches and turns them into figures."""

    detections: list[dict[str, Any]]

    def reset(self) -> None: ...
    def update(self, image_ids: Sequence[int], results: Sequence[dict[str, Tensor]]) -> None: ...
    def add(self, detections: Sequence[dict[str, Any]]) -> None: ...
    def compute(self) -> dict[str, float]: ...


def evaluate(
    network: nn.Module,
    loader: EvalBatches,
    postprocess: Callable[[Any, Tensor], list[dict[str, Tensor]]],
    metric: Metric,
    args: HasAmp,
    device: torch.device,
    stop: StopRequest | None = None,
) -> dict[str, float]:
    """Measure a network. Training, its average and the evaluate command call this one function.

    Args:
        network: Restored to its mode when the pass ends, in whatever way.
        loader: This process's share of the images, each once.
        postprocess: Decodes float32 outputs to `boxes`, `scores` and `labels` for sizes (N, 2).
        metric: Reset first; holds all detections afterwards, on rank 0.
        args: Precision, for `amp_context`.
        device: Where the network is.
        stop: Looked at after every batch.

    Returns:
        The figures by name, the same on every rank.

    Raises:
        Interrupted: A rank was asked to stop.
    """
    stop = stop or StopRequest()
    was_training = network.training
    network.eval()
    metric.reset()
    rounds, served = max_over_ranks(len(loader)), 0  # the ranks look at `stop` equally often, whatever their share
    try:
        with torch.inference_mode():
            for batch in loader:
                served += 1
                for part in _passes(network, batch, args, device):
                    metric.update(part[0].image_ids, postprocess(part[1], part[0].sizes))
                stop.check()
            for _ in range(rounds - served):
                stop.check()
    finally:
        network.train(was_training)
    gathered = gather_objects(metric.detections)
    metric.reset()
    for detections in gathered:
        metric.add(detections)
    return _compute(metric, stop)


def _passes(
    network: nn.Module, batch: EvalBatch, args: HasAmp, device: torch.device
) -> Iterator[tuple[EvalBatch, Any]]:
    """Yield a batch with its outputs; in halves, and halves of halves, if it does not fit into memory."""
    on_device = batch.to(device)
    try:
        yield on_device, forward_in_amp(network, on_device.images, args)
        return
    except torch.OutOfMemoryError:
        if len(batch.image_ids) == 1:
            raise
    del on_device
    for half in batch.cut(-(-len(batch.image_ids) // 2)):
        yield from _passes(network, half, args, device)


def _compute(metric: Metric, stop: StopRequest) -> dict[str, float]:
    """Return rank 0's figures on every rank; on a large split this takes long, and rank 0 may be asked to stop."""
    outcome: dict[str, float] | int | None = None
    if is_main():
        try:
            with stop.at_once():
                outcome = metric.compute()
        except Interrupted as interruption:
            outcome = int(str(interruption.code))
    outcome = broadcast_object(outcome)
    if not isinstance(outcome, dict):
        raise Interrupted(int(outcome or 1))
    return outcome
