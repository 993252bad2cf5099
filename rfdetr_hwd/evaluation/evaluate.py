"""One pass over a dataset that measures a network, and leaves everything as it was."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.errors import Interrupted
from rfdetr_hwd.runtime.distributed import broadcast_object, gather_objects, is_main, max_over_ranks
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.runtime.memory import PassSize, in_parts


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
    def compute(self) -> dict[str, float | None]: ...


def evaluate(
    network: nn.Module,
    loader: EvalBatches,
    postprocess: Callable[[Any, Tensor], list[dict[str, Tensor]]],
    metric: Metric,
    args: HasAmp,
    device: torch.device,
    size: PassSize,
    stop: StopRequest | None = None,
) -> dict[str, float | None]:
    """Measure a network. Training, its average and the evaluate command call this one function.

    Args:
        network: Restored to its mode when the pass ends, in whatever way.
        loader: This process's share of the images, each once.
        postprocess: Decodes float32 outputs to `boxes`, `scores` and `labels` for sizes (N, 2, 2).
        metric: Reset first; holds all detections afterwards, on rank 0.
        args: Precision, for `amp_context`.
        device: Where the network is.
        size: Images of one forward pass; lowered where they do not fit into memory.
        stop: Looked at after every batch.

    Returns:
        The figures by name, the same on every rank; `None` where there is nothing to measure.

    Raises:
        Interrupted: A rank was asked to stop.
        MemoryShortageError: One image alone does not fit into memory.
    """
    stop = stop or StopRequest()
    metric.reset()
    rounds, served = max_over_ranks(len(loader)), 0  # the ranks look at `stop` equally often, whatever their share
    with _measured(network), torch.inference_mode():
        for batch in loader:
            served += 1
            for part in in_parts(batch, size, lambda part: _pass(network, part, postprocess, args, device)):
                metric.update(*part)
            stop.check()
        for _ in range(rounds - served):
            stop.check()
    gathered = gather_objects(metric.detections)
    metric.reset()
    for detections in gathered:
        metric.add(detections)
    return _compute(metric, stop)


@contextmanager
def _measured(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode and its parameters into one state; afterwards both are as they were.

    Torch multiplies by a matrix that wants a gradient in another way than by one that does not, also where gradients
    are off, and the last bits differ: weights in training, their average and loaded ones would measure differently.
    """
    was_training = network.training
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.eval()
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
        network.train(was_training)


def _pass(
    network: nn.Module,
    batch: EvalBatch,
    postprocess: Callable[[Any, Tensor], list[dict[str, Tensor]]],
    args: HasAmp,
    device: torch.device,
) -> list[dict[str, Tensor]]:
    on_device = batch.to(device)
    return postprocess(forward_in_amp(network, on_device.images, args), on_device.sizes)


def _compute(metric: Metric, stop: StopRequest) -> dict[str, float | None]:
    """Return rank 0's figures on every rank; on a large split this takes long, and rank 0 may be asked to stop."""
    outcome: dict[str, float | None] | int = {}
    if is_main():
        try:
            with stop.at_once():
                outcome = metric.compute()
        except Interrupted as interruption:
            outcome = interruption.status
    outcome = broadcast_object(outcome)
    if isinstance(outcome, int):
        raise Interrupted(outcome)
    return outcome
