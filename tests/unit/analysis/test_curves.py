import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.analysis.curves import precision_at_recall
from rfdetr_hwd.evaluation.matching import match
from rfdetr_hwd.evaluation.thresholds import ThresholdCurve, best_threshold, best_thresholds, threshold_curve
from rfdetr_hwd.evaluation.weighted_metrics import coco_metrics
from tests.unit.analysis.scenes import golden, random_scene, scene
from tests.unit.evaluation.random_sets import random_set

BOX, FAR = [10.0, 10.0, 20.0, 20.0], [60.0, 60.0, 20.0, 20.0]


def test_means_of_the_curves_of_the_golden_set_are_its_aps() -> None:
    matches = match(*golden())
    metrics = coco_metrics(matches)
    assert np.nanmean(precision_at_recall(matches)) == pytest.approx(metrics["AP50"], abs=1e-12)
    assert np.nanmean(precision_at_recall(matches, iou=0.75)) == pytest.approx(metrics["AP75"], abs=1e-12)
    for name, ap in zip(matches.class_names, precision_at_recall(matches, iou=None).mean(axis=1), strict=True):
        expected = metrics[f"AP/{name}"]
        assert ap == pytest.approx(np.nan if expected is None else expected, abs=1e-12, nan_ok=True)


def test_counts_precision_recall_and_f1_of_a_worked_example() -> None:
    """Two cats: one found at 0.9, a wrong box at 0.6, the other found at 0.4. A dog's box, without a dog, at 0.8."""
    found = [(0, "cat", BOX, 0.9), (0, "dog", FAR, 0.8), (0, "cat", [0.0, 70.0, 9.0, 9.0], 0.6), (0, "cat", FAR, 0.4)]
    matches = match(*scene([(0, "cat", BOX), (0, "cat", FAR)], found))
    cat, overall = threshold_curve(matches, 0), threshold_curve(matches)
    assert cat.scores.tolist() == [0.9, 0.6, 0.4]
    assert cat.precision.tolist() == [1, 1 / 2, 2 / 3]
    assert cat.recall.tolist() == [0.5, 0.5, 1]
    assert cat.f1.tolist() == pytest.approx([2 / 3, 1 / 2, 4 / 5])
    assert overall.num_kept.tolist() == [1, 2, 3, 4]
    assert overall.f1.tolist() == pytest.approx([2 / 3, 1 / 2, 2 / 5, 2 / 3])
    precision, recall, f1 = cat.at(np.array([1.0, 0.9, 0.5, 0.0]))
    assert np.array_equal(precision, [np.nan, 1, 1 / 2, 2 / 3], equal_nan=True)
    assert recall.tolist() == [0, 0.5, 0.5, 1]
    assert f1.tolist() == pytest.approx([0, 2 / 3, 1 / 2, 4 / 5])

    thresholds = best_thresholds(matches)
    assert thresholds.per_class[1:] == (None, None)
    best = thresholds.per_class[0]
    assert (best.threshold, best.precision, best.recall) == pytest.approx((0.2, 2 / 3, 1))
    # Overall, F1 is 2/3 from 0.8 to 0.9, and up to 0.4: the wider range is taken.
    assert thresholds.overall.threshold == pytest.approx(0.2)
    assert (thresholds.overall.flat_low, thresholds.overall.flat_high) == (0, 0.4)


def test_a_plateau_over_several_scores_is_taken_in_its_middle() -> None:
    curve = ThresholdCurve(np.array([0.9, 0.8, 0.5, 0.1]), np.array([1, 2, 3, 3]), np.array([1, 2, 5, 9]), 4)
    assert curve.f1.tolist() == pytest.approx([2 / 5, 2 / 3, 2 / 3, 6 / 13])
    best = best_threshold(curve)
    assert (best.threshold, best.flat_low, best.flat_high) == pytest.approx((0.45, 0.1, 0.8))


def test_there_is_no_best_threshold_without_a_true_positive() -> None:
    assert best_threshold(ThresholdCurve(np.zeros(0), np.zeros(0, int), np.zeros(0, int), 3)) is None
    assert best_threshold(ThresholdCurve(np.array([0.5]), np.array([0]), np.array([1]), 3)) is None
    assert best_threshold(ThresholdCurve(np.array([0.5]), np.array([0]), np.array([1]), 0)) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_no_threshold_is_better_than_the_best_and_the_flat_range_is_flat(seed: int) -> None:
    matches = match(*random_scene(seed, crowds=0.2))
    curve, best = threshold_curve(matches), best_threshold(threshold_curve(matches))
    counted, is_true = ~matches.ignored[0, 0], matches.matched[0, 0] & ~matches.ignored[0, 0]
    if best is None:
        assert not is_true.any()
        return
    grid = np.linspace(0, 1, 400)
    kept = matches.score >= grid[:, None]
    f1 = 2 * (kept & is_true).sum(axis=1) / ((kept & counted).sum(axis=1) + matches.num_ground_truth[0].sum())
    assert np.allclose(curve.at(grid)[2], f1)
    assert f1.max() <= best.f1 + 1e-12
    assert curve.at(np.array([best.threshold]))[2][0] == pytest.approx(best.f1)
    flat = (grid > best.flat_low) & (grid <= best.flat_high)
    assert (f1[flat] >= best.f1 - 0.01 - 1e-9).all()
    assert best.flat_low <= best.threshold <= best.flat_high


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_curves_count_what_lies_above_each_score(seed: int, tied: bool) -> None:
    matches = match(*random_set(seed, tied=tied))
    for category in (None, 0, 1, 2):
        curve = threshold_curve(matches, category)
        counted = ~matches.ignored[0, 0] & (True if category is None else matches.category == category)
        assert curve.scores.tolist() == sorted(set(matches.score[counted].tolist()), reverse=True)
        above = counted & (matches.score >= curve.scores[:, None])
        assert curve.num_kept.tolist() == above.sum(axis=1).tolist()
        assert curve.num_true.tolist() == (above & matches.matched[0, 0]).sum(axis=1).tolist()
