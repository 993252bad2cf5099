"""Metrics of a class are those counted by hand, and their means are COCO's."""

import numpy as np
import pytest

from rfdetr_hwd.analysis.classes import ClassMetrics, metrics_by_class
from rfdetr_hwd.evaluation.weighted_metrics import coco_metrics
from tests.unit.analysis.scenes import golden, matched, scene


def test_one_of_two_cats_is_found_and_no_cow_is_there() -> None:
    box = [10, 10, 20, 20]
    objects = [(0, "cat", box), (1, "cat", box), (1, "dog", [60, 10, 20, 20])]
    cat, dog, cow = metrics_by_class(matched(*scene(objects, [(0, "cat", box, 0.9)], num_images=3))[0])
    # Recall of 0 to 0.5 has precision 1: 51 of 101 levels.
    assert cat == ClassMetrics("cat", 2, 2, pytest.approx(51 / 101), pytest.approx(51 / 101), 0.5)
    assert dog == ClassMetrics("dog", 1, 1, 0.0, 0.0, 0.0)
    assert cow == ClassMetrics("cow", 0, 0, None, None, None)


def test_means_over_the_classes_are_coco_s_metrics() -> None:
    matches, _ = matched(*golden())
    classes = [one for one in metrics_by_class(matches) if one.num_objects]
    expected = coco_metrics(matches, metrics=["AP", "AP50", "AR_100"])
    means = [np.mean([getattr(one, name) for one in classes]) for name in ("ap", "ap50", "ar")]
    assert means == pytest.approx(list(expected.values()), abs=1e-12)
