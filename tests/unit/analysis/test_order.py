"""The order of images, annotations and detections in the files does not matter.

Detections of one image, class and score are an exception: COCO takes them as listed.
"""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.analysis.analyse import analyse
from rfdetr_hwd.analysis.calibration import calibrate, d_ece_by_size
from rfdetr_hwd.analysis.confusion import confusion_matrix
from rfdetr_hwd.analysis.curves import precision_at_recall
from rfdetr_hwd.analysis.errors import name_errors
from rfdetr_hwd.analysis.sizes import metrics_by_size
from rfdetr_hwd.analysis.summary import lead
from rfdetr_hwd.analysis.worst import worst_images
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.matching import match
from tests.unit.analysis.scenes import random_scene


def results(truth: dict, detections: Detections) -> list[object]:
    """Return all results as values that compare, without indices into the files."""
    matches = match(truth, detections)
    analysis = analyse(truth, detections, matches, 400, "letterbox")
    overlaps = analysis.overlaps
    errors = name_errors(matches, overlaps, 0.3)
    images = [
        replace(image, errors=tuple(replace(error, detection=0, annotation=0) for error in image.errors))
        for image in worst_images(matches, overlaps, errors)
    ]
    arrays = [
        precision_at_recall(matches),
        confusion_matrix(matches, overlaps, 0.3),
        calibrate(matches).precision,
        errors.count_by_class(matches, overlaps.objects),
        *analysis.costs.by_class.values(),
    ]
    return [
        *(array.tobytes() for array in arrays),
        images,
        errors.count(),
        analysis.costs.by_kind,
        analysis.thresholds,
        d_ece_by_size(matches, overlaps, analysis.image_sizes),
        metrics_by_size(matches, overlaps, analysis.sizes),
        lead(analysis),
    ]


def with_ties(detections: Detections) -> Detections:
    """Return detections with few different scores, which are different within each image and class."""
    scores = np.ceil(detections.scores * 8) / 8
    rows = np.unique([detections.image_ids, detections.category_ids, scores], axis=1, return_index=True)[1]
    return replace(detections, scores=scores)[np.sort(rows)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_results_do_not_depend_on_the_order(seed: int) -> None:
    truth, detections = random_scene(seed, crowds=0.2)
    detections = with_ties(detections)
    rng = np.random.default_rng(seed)
    shuffled = {
        name: [truth[name][row] for row in rng.permutation(len(truth[name]))]
        for name in ("images", "annotations", "categories")
    }
    again = detections[rng.permutation(len(detections))]
    assert results(shuffled, again) == results(truth, detections)
