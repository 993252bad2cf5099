"""Metrics of a model on shifted and on corrupted images."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch import nn

from rfdetr_hwd.data.corruptions import KINDS, Corruption
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.evaluation.shifts import Shifted, compare_detections, summarise

Report = Callable[[str, float | None], None]
"""Receives the name and the AP of each measurement as it is made."""


def measure_shifts(
    evaluation: Evaluation, network: nn.Module, largest: int, threshold: float, report: Report
) -> dict[str, Any]:
    """Return metrics over shifts of the model's input by 0 to some pixels, to the right and down.

    Args:
        evaluation: Of a split.
        network: The network, on the device.
        largest: Largest shift in pixels of the input.
        threshold: Confidence threshold of the detections whose consistency is measured.
        report: Receives each AP.

    Returns:
        `AP` of each shift, its lowest and highest value; `kept`, the fraction of the detections that keep their class
        and place (IoU of at least 0.9), of each shift, and its mean; the mean change of the score of kept detections.
    """
    aps: list[float | None] = []
    consistencies = []
    still = None
    for pixels in range(largest + 1):
        aps.append(evaluation.measure(Shifted(network, pixels))["AP"])
        report(f"shift {pixels} px", aps[-1])
        if still is None:
            still = evaluation.metric.detections
        else:
            consistencies.append(compare_detections(still, evaluation.metric.detections, threshold))
    return {"threshold": threshold, **summarise(aps, consistencies)}


def measure_corruptions(
    build: Callable[[Corruption], Evaluation], network: nn.Module, severities: Sequence[int], seed: int, report: Report
) -> dict[str, Any]:
    """Return AP on corrupted images.

    Args:
        build: Returns an evaluation whose images are corrupted.
        network: The network, on the device.
        severities: Severities, from 1 to 5.
        seed: Seed of the random parts of the corruptions.
        report: Receives each AP.

    Returns:
        `AP` by kind and severity, and `mPC`: the mean over severities, then over kinds (Michaelis et al. 2019).
    """
    aps: dict[str, dict[str, float | None]] = {kind: {} for kind in KINDS}
    for kind, severity in ((kind, severity) for kind in KINDS for severity in severities):
        ap = build(Corruption(kind, severity, seed)).measure(network)["AP"]
        aps[kind][str(severity)] = ap
        report(f"{kind} {severity}", ap)
    return {"seed": seed, "AP": aps, "mPC": _mean(_mean(list(found.values())) for found in aps.values())}


def _mean(values: Iterator[float | None] | Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
