"""Metrics of a model on shifted and on corrupted images."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from rfdetr_hwd.config.robustness import Robustness
from rfdetr_hwd.console import digits
from rfdetr_hwd.data.corruptions import KINDS, Corruption
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.evaluation.shifts import Shifted, compare_detections, summarise

_THRESHOLD = 0.5
"""Confidence threshold where none has the best F1, as in `predict`."""

Report = Callable[[str, float | None], None]
"""Receives the name and the AP of each measurement as it is made."""


def measure_robustness(
    evaluation: Evaluation,
    network: nn.Module,
    metrics: Mapping[str, float | None],
    wanted: Robustness,
    report: Report,
) -> dict[str, Any]:
    """Return metrics on shifted and corrupted images. Every rank takes part; those of rank 0 are of all images.

    Args:
        evaluation: It has just measured the network, and keeps those detections.
        network: The network, on the device.
        metrics: The metrics that it measured.
        wanted: What to measure.
        report: Receives each AP.

    Returns:
        `shifts` and `corruptions`, as far as they are wanted.
    """
    apart = replace(evaluation, metric=copy.copy(evaluation.metric))
    apart.metric.has_thresholds = False  # AP alone is read
    found = {}
    if wanted.shifts:
        found["shifts"] = measure_shifts(apart, network, metrics, wanted.shifts, report)
    if wanted.corruptions:
        found["corruptions"] = measure_corruptions(apart, network, metrics["AP"], wanted.severities, report)
    return found


def measure_shifts(
    evaluation: Evaluation, network: nn.Module, metrics: Mapping[str, float | None], largest: int, report: Report
) -> dict[str, Any]:
    """Return metrics over shifts of the model's input by 0 to some pixels, to the right and down.

    Args:
        evaluation: It holds the detections without a shift.
        network: The network, on the device.
        metrics: Metrics without a shift. Consistency is that of the detections above the threshold with the best F1.
        largest: Largest shift in pixels of the input.
        report: Receives each AP.

    Returns:
        `AP` of each shift, its lowest and highest value; `kept`, the fraction of the detections that keep their class
        and place (IoU of at least 0.9), of each shift, and its mean; the mean change of the score of kept detections.
    """
    best = metrics["threshold"]
    threshold = _THRESHOLD if best is None else best
    aps, consistencies = [metrics["AP"]], []
    still = evaluation.metric.detections
    for pixels in range(1, largest + 1):
        aps.append(evaluation.measure(Shifted(network, pixels))["AP"])
        report(f"shift {pixels} of {largest} px", aps[-1])
        consistencies.append(compare_detections(still, evaluation.metric.detections, threshold))
    return {"threshold": threshold, **summarise(aps, consistencies)}


def measure_corruptions(
    evaluation: Evaluation, network: nn.Module, clean_ap: float | None, severities: Sequence[int], report: Report
) -> dict[str, Any]:
    """Return AP on corrupted images. The seed of their random parts is `train.seed`.

    Args:
        evaluation: Of images as they are.
        network: The network, on the device.
        clean_ap: AP of images as they are.
        severities: Severities, from 1 to 5.
        report: Receives each AP.

    Returns:
        `AP` by kind and severity; `mPC`, its mean over severities, then over kinds; `rPC`, its ratio to the clean AP
        (Michaelis et al. 2019).
    """
    seed = evaluation.config.train.seed
    aps: dict[str, dict[str, float | None]] = {kind: {} for kind in KINDS}
    for kind, severity in ((kind, severity) for kind in KINDS for severity in severities):
        ap = evaluation.corrupted(Corruption(kind, severity, seed)).measure(network)["AP"]
        aps[kind][str(severity)] = ap
        report(f"{kind} {severity}", ap)
    corrupted_ap = _mean(_mean(list(found.values())) for found in aps.values())
    relative = corrupted_ap / clean_ap if corrupted_ap is not None and clean_ap else None
    return {"seed": seed, "AP": aps, "mPC": corrupted_ap, "rPC": relative}


def shift_rows(shifts: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the table of `measure_shifts`: shift, AP, fraction of the detections that are kept."""
    pairs = zip(shifts["AP"], [None, *shifts["kept"]], strict=True)
    rows = [(f"{pixels} px", digits(ap), digits(kept)) for pixels, (ap, kept) in enumerate(pairs)]
    worst_to_best = f"{digits(shifts['AP_worst'])} to {digits(shifts['AP_best'])}"
    return [*rows, ("all", worst_to_best, digits(shifts["kept_mean"]))]


def corruption_rows(corruptions: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of `measure_corruptions`: kind, and the AP at each severity."""
    return [(kind, *map(digits, aps.values())) for kind, aps in corruptions["AP"].items()]


def _mean(values: Iterator[float | None] | Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
