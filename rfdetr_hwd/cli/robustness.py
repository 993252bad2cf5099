"""Metrics on shifted and corrupted images, for the verbs that evaluate."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rfdetr_hwd.console import digits, print_table, say

if TYPE_CHECKING:
    from rfdetr_hwd.config.robustness import Robustness
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.evaluation.measurement import Evaluation


def add_robustness(
    detector: "Detector",
    evaluation: "Evaluation",
    metrics: Mapping[str, float | None],
    wanted: "Robustness",
    directory: Path,
) -> dict[str, Any]:
    """Measure a detector on shifted and corrupted images, too. Rank 0 adds it to the metrics in the directory.

    Args:
        detector: The detector.
        evaluation: The finished evaluation.
        metrics: Its metrics.
        wanted: What to measure.
        directory: The directory of the evaluation, already written.

    Returns:
        See `measure_robustness`.
    """
    from rfdetr_hwd.evaluation.results import write_robustness
    from rfdetr_hwd.evaluation.robustness import measure_robustness
    from rfdetr_hwd.runtime import distributed

    def report(name: str, ap: float | None) -> None:
        if distributed.is_main():
            say(f"{name}: AP {digits(ap)}")

    robustness = measure_robustness(evaluation, detector.network, metrics, wanted, report)
    if robustness and distributed.is_main():
        write_robustness(directory, robustness)
    return robustness


def print_robustness(robustness: Mapping[str, Any]) -> None:
    """Print the tables of `measure_robustness`."""
    from rfdetr_hwd.evaluation.robustness import corruption_rows, shift_rows

    if shifts := robustness.get("shifts"):
        threshold = digits(shifts["threshold"], 2)
        title = f"shifts of the input; kept: detections of score {threshold} or more with their class and place"
        print_table(title, ("shift", "AP", "kept"), shift_rows(shifts))
        say(f"mean change of the score of kept detections: {digits(shifts['score_change_mean'])}")
    if corruptions := robustness.get("corruptions"):
        severities = next(iter(corruptions["AP"].values()))
        header = ("corruption", *(f"severity {severity}" for severity in severities))
        print_table("AP of corrupted images", header, corruption_rows(corruptions))
        say(f"mPC, their mean: {digits(corruptions['mPC'])}\nrPC, its ratio to AP: {digits(corruptions['rPC'])}")
