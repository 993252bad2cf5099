"""One pass over a dataset that evaluates a network. The network is unchanged afterwards."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.data.loader import EvalLoader
from rfdetr_hwd.errors import Interrupted
from rfdetr_hwd.evaluation.coco import CocoMetric
from rfdetr_hwd.runtime.distributed import broadcast_object, gather_objects, is_main, max_over_ranks
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.runtime.memory import MemoryShortageError, is_out_of_memory

logger = logging.getLogger(__name__)


Detect = Callable[[nn.Module, Batch], list[dict[str, Tensor]]]
"""Finds the objects of a batch with a network: for each image `boxes` (K, 4) xyxy, `scores` (K,), `labels` (K,)."""


@dataclass
class PassSize:
    """The number of images that fit into memory at once, as far as is known.

    Attributes:
        images: Largest number to try.
    """

    images: int


def evaluate(
    network: nn.Module,
    loader: EvalLoader,
    detect: Detect,
    metric: CocoMetric,
    size: PassSize,
    stop: StopRequest | None = None,
) -> dict[str, float | None]:
    """Evaluate a network. Training (for raw weights and EMA) and the evaluate command call this function.

    Args:
        network: Its mode is restored afterwards, also after an error.
        loader: This rank's part of the images, each once.
        detect: Finds the objects of a batch; see `detect_in_amp`.
        metric: Reset first; holds all detections afterwards, on rank 0.
        size: Images of one forward pass. Lowered if they do not fit into memory.
        stop: Checked after every batch.

    Returns:
        The metrics by name, the same on every rank; `None`: nothing to measure.

    Raises:
        Interrupted: A rank was asked to stop.
        MemoryShortageError: One image alone does not fit into memory.
    """
    stop = stop or StopRequest()
    metric.reset()
    rounds, served = max_over_ranks(len(loader)), 0  # every rank checks `stop` equally often
    # Detect on this rank's images.
    with _measured(network), torch.inference_mode():
        for batch in loader:
            served += 1
            for part in in_parts(batch, size, lambda part: detect(network, part)):
                metric.update(*part)
            stop.check()
        for _ in range(rounds - served):
            stop.check()
    # Gather the detections on rank 0, as arrays.
    gathered = gather_objects(metric.detections)
    metric.reset()
    for detections in gathered:
        metric.add(detections)
    # Compute the metrics on rank 0, for all ranks.
    return _compute(metric, stop)


def detect_in_amp(
    network: nn.Module,
    batch: Batch,
    postprocess: Callable[[Any, Tensor], list[dict[str, Tensor]]],
    args: HasAmp,
    device: torch.device,
) -> list[dict[str, Tensor]]:
    """Find the objects of a batch under the precision of the training.

    Args:
        network: Its forward pass is run.
        batch: The batch, on any device.
        postprocess: Decodes float32 outputs to `boxes`, `scores` and `labels` for sizes (N, 2, 2).
        args: Precision, for `amp_context`.
        device: Where the network is.
    """
    on_device = batch.to(device)
    return postprocess(forward_in_amp(network, on_device.images, args), on_device.sizes)


def in_parts(
    batch: Batch, size: PassSize, run: Callable[[Batch], list[dict[str, Tensor]]]
) -> Iterator[tuple[tuple[int, ...], list[dict[str, Tensor]]]]:
    """Yield image ids with results, in order. A part of the batch that does not fit into memory is halved.

    Args:
        batch: The batch.
        size: Images of one part. Lowered if they do not fit.
        run: Makes the results of a part.

    Raises:
        MemoryShortageError: One image alone does not fit.
    """
    waiting = [batch]
    while waiting:
        part = waiting.pop(0)
        number = len(part.image_ids)
        if number > size.images:
            waiting = part.split(size.images) + waiting
            continue
        try:
            results = run(part)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        else:
            yield part.image_ids, results
            continue
        # Out of memory. No traceback holds the tensors of the pass here.
        torch.cuda.empty_cache()
        if number == 1:
            raise MemoryShortageError(
                "the evaluation of one image does not fit into memory. Check what else uses the memory, or resume with "
                "--accept train.ema train.ema=false"
            )
        size.images = -(-number // 2)
        waiting = [part, *waiting]
        logger.warning("out of memory evaluating %d images at once; retrying with %d", number, size.images)


@contextmanager
def _measured(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, its parameters without gradients. Restore both afterwards.

    Torch uses another matrix product for parameters that require a gradient, even where gradients are off. The last
    bits differ: raw weights, EMA and loaded weights would get different metrics.
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


def _compute(metric: CocoMetric, stop: StopRequest) -> dict[str, float | None]:
    """Return rank 0's metrics on every rank. On a large split this takes long, and rank 0 may be asked to stop."""
    outcome: dict[str, float | None] | int = {}
    if is_main():
        try:
            with stop.raise_immediately():
                outcome = metric.measure()
        except Interrupted as interruption:
            outcome = interruption.status
    outcome = broadcast_object(outcome)
    if isinstance(outcome, int):
        raise Interrupted(outcome)
    return outcome
