"""What a model card says: the model, and what its run recorded about data, training and evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfdetr_hwd.checkpoint.run_log import read_starts
from rfdetr_hwd.checkpoint.schema import DataIdentity
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.files import UntrustedFileError, read_json_object

_MAX_REPORT_BYTES = 256 << 20


@dataclass(frozen=True)
class CardFacts:
    """The facts of a model card.

    Attributes:
        config: The configuration of the training.
        class_names: Class names in label order.
        resolution: Input resolution in pixels.
        resize: How an image is fitted into the square.
        num_select: Largest number of detections in an image.
        threshold: Confidence threshold of the best F1 on the validation images, if it was recorded.
        weights: The exported weights: `ema` or `raw`.
        step: Optimizer steps of the training.
        data_name: Name of the dataset: the last part of its directory.
        training_data: Counts and fingerprint of the training split.
        validation_data: The same of the validation split.
        start: The newest entry of run.json; empty without one.
        metrics: Metrics of these weights by name; `None`: no ground truth.
        intervals: 95 % interval of metrics by name, as `low` and `high`; empty without an evaluation of the weights.
        protocol: How the metrics with intervals were measured.
    """

    config: Config
    class_names: tuple[str, ...]
    resolution: int
    resize: str
    num_select: int
    threshold: float | None
    weights: str
    step: int
    data_name: str
    training_data: DataIdentity
    validation_data: DataIdentity
    start: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]
    protocol: Mapping[str, Any]


def gather_facts(detector: Detector) -> CardFacts:
    """Return what is known of a detector: from its checkpoint, run.json and the newest evaluation."""
    checkpoint, prefix = detector.checkpoint, f"{detector.weights}/"
    *_, start = read_starts(checkpoint.run / "run.json") or [{}]
    recorded = {
        name.removeprefix(prefix): value
        for name, value in checkpoint.state.current_metrics.items()
        if name.startswith(prefix)
    }
    report = _find_report(detector)
    return CardFacts(
        config=detector.config,
        class_names=detector.class_names,
        resolution=detector.resolution,
        resize=detector.model.resize,
        num_select=detector.model.stock.config.num_select,
        threshold=detector.threshold if detector.has_threshold else None,
        weights=detector.weights,
        step=checkpoint.step,
        data_name=Path(detector.config.data.root).resolve().name or "dataset",
        training_data=checkpoint.record.training_data,
        validation_data=checkpoint.record.validation_data,
        start=start,
        metrics={**recorded, **report.get("metrics", {})},
        intervals=_read_intervals(report),
        protocol=report.get("protocol", {}),
    )


def _find_report(detector: Detector) -> dict[str, Any]:
    """Return report.json of the newest evaluation of these weights in the run; empty: there is none."""
    wanted = (detector.weights, detector.checkpoint.step)
    paths = sorted(detector.checkpoint.run.glob("*/report/report.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(paths):
        try:
            report = read_json_object(path, _MAX_REPORT_BYTES)
        except (FileNotFoundError, UntrustedFileError):
            continue
        protocol = report.get("protocol")
        if isinstance(protocol, dict) and (protocol.get("weights"), protocol.get("step")) == wanted:
            return report
    return {}


def _read_intervals(report: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    found = report.get("intervals")
    intervals = found.items() if isinstance(found, dict) else ()
    return {name: (one["low"], one["high"]) for name, one in intervals if isinstance(one, dict)}
