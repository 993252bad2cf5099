"""The parts of an analysis that the others are computed from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.errors import Errors, name_errors
from rfdetr_hwd.analysis.oracles import Costs, error_costs
from rfdetr_hwd.analysis.overlaps import Overlaps, find_overlaps
from rfdetr_hwd.analysis.sizes import Sizes, measure_sizes, read_image_sizes
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import Matches
from rfdetr_hwd.evaluation.thresholds import Thresholds, best_thresholds


@dataclass(frozen=True)
class Analysis:
    """A run's detections, set against the ground truth.

    Attributes:
        matches: COCO's matches.
        overlaps: Overlaps of detections and objects, across classes.
        errors: Errors of all detections, whatever their score.
        costs: AP50 lost to each type of error.
        thresholds: Best confidence thresholds.
        image_sizes: Height and width of each image, shape (I, 2).
        sizes: Sizes of objects and detections in model pixels.
    """

    matches: Matches
    overlaps: Overlaps
    errors: Errors
    costs: Costs
    thresholds: Thresholds
    image_sizes: NDArray[np.int64]
    sizes: Sizes


def analyse(
    ground_truth: Mapping[str, Any],
    detections: Detections,
    matches: Matches,
    resolution: int | None,
    resize: Literal["stretch", "letterbox"],
) -> Analysis:
    """Compute overlaps, errors, costs, thresholds and sizes.

    Args:
        ground_truth: The COCO dictionary that was matched.
        detections: The detections that were matched.
        matches: Their matches.
        resolution: Width and height of the model's input in pixels; `None`: sizes are in pixels of the image.
        resize: How images become a square.
    """
    overlaps = find_overlaps(ground_truth, detections, matches)
    errors = name_errors(matches, overlaps)
    image_sizes = read_image_sizes(ground_truth, matches)
    return Analysis(
        matches=matches,
        overlaps=overlaps,
        errors=errors,
        costs=error_costs(matches, overlaps, errors),
        thresholds=best_thresholds(matches),
        image_sizes=image_sizes,
        sizes=measure_sizes(matches, overlaps, image_sizes, resolution, resize),
    )
