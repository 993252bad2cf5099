"""Everything that the report of an evaluation shows, computed once: for the page, for the files, for the terminal."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.analyse import Analysis, analyse
from rfdetr_hwd.analysis.calibration import Calibration, calibrate, d_ece_by_size
from rfdetr_hwd.analysis.classes import ClassMetrics, metrics_by_class
from rfdetr_hwd.analysis.confusion import confusion_matrix
from rfdetr_hwd.analysis.errors import Errors, name_errors
from rfdetr_hwd.analysis.sizes import SizeBin, metrics_by_size
from rfdetr_hwd.analysis.summary import lead
from rfdetr_hwd.analysis.tags import TagMetrics, Tags, metrics_by_tag, read_tags
from rfdetr_hwd.analysis.worst import WorstImage, worst_images
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.evaluation.bootstrap import Interval, bootstrap_intervals
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import AREAS, Matches, match
from rfdetr_hwd.evaluation.weighted_metrics import METRICS, coco_metrics
from rfdetr_hwd.report.training_curves import RunRecords

USUAL_THRESHOLD = 0.5
"""Confidence threshold of the errors where none is better than another."""
_RESAMPLES, _MAX_DRAWS = 1000, 1_000_000
"""Resamples of the images, and of large splits at most so many draws of an image."""


@dataclass(frozen=True)
class ReportInputs:
    """What a report is made of.

    Attributes:
        data: The split, with the directory of its images.
        detections: Detections in it.
        protocol: How they were made and measured. With `resolution` and `preprocessing` ("stretch ...", "letterbox
            ..."), sizes are in pixels of the model's input, else in pixels of the image.
        run: What the run recorded; `None`: there is no run.
        tags: CSV file of the images' tags.
        has_images: Whether the image files are there.
    """

    data: DetectionData
    detections: Detections
    protocol: Mapping[str, Any]
    run: RunRecords | None = None
    tags: Path | None = None
    has_images: bool = True

    @property
    def title(self) -> str:
        """Names of the dataset and the split, or of the file of detections."""
        images = self.data.images
        names = [images.parent.name, images.name] if images.name == self.data.name else [images.name, self.data.name]
        return f"Evaluation: {self.protocol['predictions'] if 'predictions' in self.protocol else ', '.join(names)}"

    @property
    def unit(self) -> str:
        """What sizes of objects are measured in."""
        return "pixels of the image" if self.protocol.get("resolution") is None else "pixels of the model's input"


@dataclass(frozen=True)
class Findings:
    """What a report says, as numbers.

    Attributes:
        analysis: Matches, overlaps, costs, thresholds, sizes.
        lead: The three sentences.
        intervals: Interval of each metric and of `AP/<class name>`; `None`: too few images.
        metrics: The twelve metrics of COCO, and `AP@N` after AP where the protocol measures it.
        classes: Metrics of each class.
        threshold: Confidence threshold of the errors and the confusion matrix.
        errors: Errors at the threshold.
        images: Images with errors at the threshold, the worst first.
        confusion: Confusion matrix at the threshold, shape (C + 1, C + 1).
        calibration: Reliability of the scores.
        d_ece_by_size: D-ECE over score and box size.
        sizes: Metrics by object size.
        tags: Metrics by tag.
        num_untagged: Images that the file of tags does not list.
    """

    analysis: Analysis
    lead: list[str]
    intervals: Mapping[str, Interval | None]
    metrics: Mapping[str, float | None]
    classes: list[ClassMetrics]
    threshold: float
    errors: Errors
    images: list[WorstImage]
    confusion: NDArray[np.int64]
    calibration: Calibration
    d_ece_by_size: float | None
    sizes: list[SizeBin]
    tags: list[TagMetrics]
    num_untagged: int


def check_tags(path: Path | None, data: DetectionData) -> Tags | None:
    """Return the tags of a split's images, if there is a file of them.

    Raises:
        TagsError: The file cannot be used.
    """
    file_names = {str(name): int(image_id) for name, image_id in zip(data.file_names, data.image_ids, strict=True)}
    return None if path is None else read_tags(path, file_names)


def find(inputs: ReportInputs) -> Findings:
    """Compute what a report says.

    Args:
        inputs: What it is made of.

    Raises:
        TagsError: The file of tags cannot be used.
    """
    # Read the tags first: the file may be wrong, and the rest takes a while
    tags = check_tags(inputs.tags, inputs.data)

    # Match, and compute what everything else is read from
    truth = inputs.data.ground_truth()
    matches = match(truth, inputs.detections)
    resize = cast(Literal["stretch", "letterbox"], str(inputs.protocol.get("preprocessing", "stretch")).split()[0])
    analysis = analyse(truth, inputs.detections, matches, inputs.protocol.get("resolution"), resize)
    resamples = max(200, min(_RESAMPLES, _MAX_DRAWS // max(1, len(matches.image_ids))))
    names = [*METRICS, *(f"AP/{name}" for name in matches.class_names)]
    intervals = bootstrap_intervals(matches, names, resamples)

    # Name the errors at the best threshold
    best = analysis.thresholds.overall
    threshold = USUAL_THRESHOLD if best is None else best.threshold
    errors = name_errors(matches, analysis.overlaps, threshold)
    by_tag = metrics_by_tag(matches, tags) if tags is not None else []
    return Findings(
        analysis=analysis,
        lead=lead(analysis, intervals["AP"]),
        intervals=intervals,
        metrics=_measure(inputs, matches),
        classes=metrics_by_class(matches),
        threshold=threshold,
        errors=errors,
        images=worst_images(matches, analysis.overlaps, errors, top=len(matches.image_ids)),
        confusion=confusion_matrix(matches, analysis.overlaps, threshold),
        calibration=calibrate(matches),
        d_ece_by_size=d_ece_by_size(matches, analysis.overlaps, analysis.image_sizes),
        sizes=metrics_by_size(matches, analysis.overlaps, analysis.sizes),
        tags=by_tag,
        num_untagged=tags.num_untagged if tags is not None else 0,
    )


def _measure(inputs: ReportInputs, matches: Matches) -> dict[str, float | None]:
    """Return COCO's metrics, and AP at the number of detections that the protocol adds."""
    metrics = coco_metrics(matches, metrics=METRICS)
    number = inputs.protocol.get("max_dets_extra")
    if type(number) is not int or number <= 100:  # the protocol of a file is not trusted
        return metrics
    more = match(inputs.data.ground_truth(), inputs.detections, number, areas=AREAS[:1])
    return {"AP": metrics["AP"], f"AP@{number}": coco_metrics(more, metrics=["AP"])["AP"], **metrics}
