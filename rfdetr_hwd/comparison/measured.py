"""The detections of what is compared: read from files, or made by evaluating a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rfdetr_hwd.checkpoint.read import Checkpoint, newest_checkpoint, open_checkpoint
from rfdetr_hwd.comparison.compare import ComparisonError
from rfdetr_hwd.comparison.matched import Facts, read_facts
from rfdetr_hwd.comparison.robustness import Measurement, read_measurement
from rfdetr_hwd.comparison.sources import Source
from rfdetr_hwd.config.experiment import ComparisonSection
from rfdetr_hwd.config.robustness import Robustness
from rfdetr_hwd.data.coco.ground_truth import read_annotations, read_evaluated
from rfdetr_hwd.errors import explaining
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.results import GROUND_TRUTH, METRICS, PREDICTIONS, read_results
from rfdetr_hwd.files import UntrustedFileError, read_json_object

Evaluate = Callable[[Checkpoint, Path, ComparisonSection], None]
"""Evaluates a checkpoint and writes the files of the evaluation into a directory."""


@dataclass(frozen=True)
class Measured:
    """A model's detections on a split.

    Attributes:
        source: Where they come from.
        ground_truth: COCO dictionary of the split.
        detections: The detections.
        protocol: How they were made; empty for a file of results.
        facts: What must match between runs; `None` for a file of results.
        checkpoint: The evaluated checkpoint, if there is one.
        robustness: Metrics on shifted and corrupted images, as far as they were measured.
    """

    source: Source
    ground_truth: Mapping[str, Any]
    detections: Detections
    protocol: Mapping[str, Any]
    facts: Facts | None
    checkpoint: Checkpoint | None
    robustness: Measurement = Measurement()


def measure(source: Source, settings: ComparisonSection, ground_truth: Path | None, evaluate: Evaluate) -> Measured:
    """Return the detections of a source. A checkpoint is evaluated, unless an evaluation of its weights is there.

    Args:
        source: What to measure.
        settings: The split, the weights of runs and checkpoints, and the robustness that is measured.
        ground_truth: Annotation file of a file of results.
        evaluate: Evaluates a checkpoint.

    Raises:
        UserError: The source cannot be read or evaluated.
    """
    if source.kind == "results":
        if ground_truth is None:
            raise ComparisonError(
                f"{source.path} holds detections alone: give the annotations they were made for, as --ground-truth FILE"
            )
        truth = read_annotations(ground_truth).ground_truth()
        return Measured(source, truth, read_results(source.path, truth), {}, None, None)
    if source.kind == "evaluation":
        return _read(source, source.path, None, None)
    # Evaluate the last checkpoint of a run: choosing the best one on the compared images would favour it.
    checkpoint = (
        newest_checkpoint(source.path / "checkpoints")[0]
        if source.kind == "run"
        else open_checkpoint(source.path.resolve())
    )
    weights = settings.weights
    if weights not in checkpoint.weights_kinds:
        raise ComparisonError(
            f"{checkpoint.path} holds no {weights} weights; give --weights {checkpoint.weights_kinds[0]}"
        )
    folder = _evaluation_folder(checkpoint, settings.split, weights)
    if not _is_of(folder, checkpoint.weights_sha256(weights), settings):
        evaluate(checkpoint, folder, settings)
    return _read(source, folder, checkpoint, read_facts(checkpoint, weights))


def _evaluation_folder(checkpoint: Checkpoint, split: str, weights: str) -> Path:
    """Return the directory of an evaluation: in the run, or in a checkpoint without a run."""
    run = checkpoint.run
    parent = run if (run / "config.yaml").is_file() else checkpoint.path
    return parent / f"evaluate-{split}-{checkpoint.path.name}-{weights}"


def _is_of(folder: Path, sha256: str, wanted: Robustness) -> bool:
    """Return whether a directory holds the evaluation of these weights, with the robustness that is wanted."""
    if not all((folder / name).is_file() for name in (METRICS, PREDICTIONS, GROUND_TRUTH)):
        return False
    try:
        recorded = read_json_object(folder / METRICS)
    except UntrustedFileError:
        return False
    protocol = recorded.get("protocol", {})
    is_of_weights = isinstance(protocol, dict) and protocol.get("weights_sha256") == sha256
    return is_of_weights and read_measurement(recorded.get("robustness", {})).covers(wanted)


def _read(source: Source, folder: Path, checkpoint: Checkpoint | None, facts: Facts | None) -> Measured:
    truth = read_evaluated(folder / GROUND_TRUTH).ground_truth()
    with explaining(UntrustedFileError, f"{folder / METRICS} is not the file of an evaluation", ComparisonError):
        recorded = read_json_object(folder / METRICS) if (folder / METRICS).exists() else {}
        protocol = recorded.get("protocol", {})
        if not isinstance(protocol, dict):
            raise UntrustedFileError("its protocol is not an object")
    detections, robustness = read_results(folder / PREDICTIONS, truth), read_measurement(recorded.get("robustness", {}))
    return Measured(source, truth, detections, protocol, facts, checkpoint, robustness)
