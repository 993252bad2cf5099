"""The last evaluation of a finished run, kept for its report."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.results import describe_protocol
from rfdetr_hwd.training.trainer import Trainer

DIRECTORY = "evaluation"


@dataclass(frozen=True)
class LastEvaluation:
    """An evaluation of the weights with the higher AP, at the end of a run.

    Attributes:
        run: Run directory.
        data: The evaluated images.
        detections: Detections in them.
        metrics: Metrics by name.
        protocol: Protocol of the metrics.
    """

    run: Path
    data: DetectionData
    detections: Detections
    metrics: Mapping[str, float | None]
    protocol: Mapping[str, Any]

    @property
    def directory(self) -> Path:
        """Directory of its files."""
        return self.run / DIRECTORY


def last_evaluation(trainer: Trainer) -> LastEvaluation | None:
    """Return the last evaluation of a run. `None`: this process made none, or is not rank 0."""
    evaluation, state = trainer.evaluation, trainer.state
    if not evaluation.found:
        return None
    weights = max(evaluation.found, key=lambda kind: state.metrics.get(f"{kind}/AP") or 0.0)
    dataset = evaluation.loader.dataset
    prefix = f"{weights}/"
    return LastEvaluation(
        run=trainer.folder.path,
        data=dataset.data,
        detections=evaluation.found[weights],
        metrics={name.removeprefix(prefix): v for name, v in state.metrics.items() if name.startswith(prefix)},
        protocol={
            **describe_protocol(evaluation, dataset.data),
            "resolution": evaluation.loader.resolution,
            "preprocessing": f"{dataset.resize} into a square, bilinear, antialiased",
            "weights": weights,
            "step": state.metrics_step,
        },
    )
