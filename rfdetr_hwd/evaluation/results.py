"""The files of an evaluation: metrics with their protocol, detections, and the images and categories of their ids."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rfdetr_hwd.amp import describe_precision
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.errors import writing
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.files import replace_text


def describe_protocol(evaluation: Evaluation, data: DetectionData) -> dict[str, Any]:
    """Return how metrics were measured: the metric, the images, the precision.

    Args:
        evaluation: The finished evaluation.
        data: The evaluated images.
    """
    return {
        **evaluation.metric.protocol,
        "images_unreadable": sorted(evaluation.unreadable),
        "data": str(data.images),
        "split": data.name,
        "bit_depth": data.options.bit_depth,
        "exif": data.options.exif,
        **describe_precision(evaluation.config, evaluation.device),
    }


def write_results(
    folder: Path,
    metrics: Mapping[str, float | None],
    protocol: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    data: DetectionData,
) -> None:
    """Write `predictions.json`, `metrics.json` and `images.json`.

    Args:
        folder: Existing directory of the files.
        metrics: Metrics by name.
        protocol: Protocol of the metrics.
        detections: In COCO's format of results.
        data: The evaluated images.

    Raises:
        ConfigError: A file cannot be written.
    """
    with writing("--out", folder):
        replace_text(folder / "predictions.json", json.dumps(detections))
        replace_text(folder / "metrics.json", json.dumps({"metrics": metrics, "protocol": protocol}, indent=2))
        replace_text(folder / "images.json", json.dumps(_describe_images(data)))


def _describe_images(data: DetectionData) -> dict[str, Any]:
    """Return the files and classes of the ids in `predictions.json`, which COCO's results format lacks."""
    truth = data.ground_truth()
    pairs = zip(truth["images"], data.file_names.tolist(), strict=True)
    images = [{**image, "file_name": str(name)} for image, name in pairs]
    return {"root": str(data.images), "images": images, "categories": truth["categories"]}
