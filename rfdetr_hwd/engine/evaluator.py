"""One pass over a dataset that measures a network, and leaves everything as it was."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.engine.distributed import broadcast_object, gather_objects, is_main


class EvalBatch(Protocol):
    """Images with the sizes that boxes are decoded to."""

    @property
    def images(self) -> Tensor: ...
    @property
    def image_ids(self) -> tuple[int, ...]: ...
    @property
    def sizes(self) -> Tensor: ...
    def to(self, device: torch.device) -> "EvalBatch": ...


class Metric(Protocol):
    """Collects results of batches and turns them into figures."""

    detections: list[dict[str, Any]]

    def reset(self) -> None: ...
    def update(self, image_ids: Sequence[int], results: Sequence[dict[str, Tensor]]) -> None: ...
    def add(self, detections: Sequence[dict[str, Any]]) -> None: ...
    def compute(self) -> dict[str, float]: ...


def evaluate(
    network: nn.Module,
    loader: Iterable[EvalBatch],
    postprocess: Callable[[Any, Tensor], list[dict[str, Tensor]]],
    metric: Metric,
    args: HasAmp,
    device: torch.device,
) -> dict[str, float]:
    """Measure a network. Training, its average and the evaluate command call this one function.

    Args:
        network: Restored to its mode when the pass ends, in whatever way.
        loader: This process's share of the images, each once.
        postprocess: Decodes float32 outputs to `boxes`, `scores` and `labels` for sizes (N, 2).
        metric: Reset first; holds all detections afterwards, on rank 0.
        args: Precision, for `amp_context`.
        device: Where the network is.

    Returns:
        The figures by name, the same on every rank.
    """
    was_training = network.training
    network.eval()
    metric.reset()
    try:
        with torch.inference_mode():
            for batch in loader:
                batch = batch.to(device)
                outputs = forward_in_amp(network, batch.images, args)
                metric.update(batch.image_ids, postprocess(outputs, batch.sizes))
    finally:
        network.train(was_training)
    gathered = gather_objects(metric.detections)
    metric.reset()
    for detections in gathered:
        metric.add(detections)
    figures: dict[str, float] = broadcast_object(metric.compute() if is_main() else None)
    return figures
