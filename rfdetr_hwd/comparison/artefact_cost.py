"""What the compared models cost: parameters, multiply-adds, and latency measured in turns."""

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from rfdetr_hwd.amp import forward_in_amp
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.layers.cost import count_multiply_adds
from rfdetr_hwd.model.fold import FoldError, fold_model
from rfdetr_hwd.runtime.timing import spread, time_in_turns

_ROUNDS = 15


class ModelCost(NamedTuple):
    """The cost of one model, as it is shipped.

    Attributes:
        parameters: Number of parameters.
        multiply_adds: Of convolutions and matrix products, for one image.
        latency_ms: Median milliseconds of a forward pass of one image, without reading and decoding.
        latency_ratio: Median over the rounds of its latency divided by the first model's.
        latency_ratio_low: First quartile over the rounds.
        latency_ratio_high: Third quartile over the rounds.
        is_folded: Whether this is the stock RF-DETR that `export` writes. Some downsamplers do not fold.
    """

    parameters: int
    multiply_adds: int
    latency_ms: float
    latency_ratio: float
    latency_ratio_low: float
    latency_ratio_high: float
    is_folded: bool


def measure_model_costs(detectors: Mapping[str, Detector]) -> dict[str, ModelCost]:
    """Return the cost of each model. Their forward passes take turns, so that a change of the machine's speed hits all.

    Args:
        detectors: A model of each arm, all with one input resolution and on one device.
    """
    shipped = {arm: _as_shipped(detector) for arm, detector in detectors.items()}
    first = next(iter(detectors.values()))
    image = torch.zeros(1, 3, first.resolution, first.resolution, device=first.device)
    # Time the passes in turns.
    passes = {arm: partial(forward_in_amp, network, image, first.config) for arm, (network, _) in shipped.items()}
    with torch.inference_mode():
        times = time_in_turns(passes, first.device, _ROUNDS)
    # Count, and compare with the first.
    reference = times[next(iter(shipped))]
    return {
        arm: ModelCost(
            sum(parameter.numel() for parameter in network.parameters()),
            count_multiply_adds(network, image),
            spread(times[arm]).median,
            *_quartiles(times[arm], reference),
            is_folded,
        )
        for arm, (network, is_folded) in shipped.items()
    }


def _quartiles(times: Sequence[float], reference: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the first and the third quartile of the ratios of the rounds."""
    low, middle, high = statistics.quantiles([one / other for one, other in zip(times, reference, strict=True)], n=4)
    return middle, low, high


def _as_shipped(detector: Detector) -> tuple[nn.Module, bool]:
    """Return the network that is deployed, and whether it is folded into stock RF-DETR."""
    try:
        network = fold_model(detector.model).network
        is_folded = True
    except FoldError:
        network, is_folded = detector.network, False
    return network.to(detector.device).eval().requires_grad_(False), is_folded
