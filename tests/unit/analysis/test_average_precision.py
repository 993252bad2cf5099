import numpy as np

from rfdetr_hwd.analysis.average_precision import RECALL_LEVELS, precision_by_class


def test_precision_is_the_highest_at_this_recall_or_above() -> None:
    """Of 4 objects, detections 1, 3 and 4 of 5 find one each: precision 1, 2/3, 3/4 at recall 1/4, 2/4, 3/4."""
    is_true = np.array([[True, False, True, True, False]])
    counted = np.ones((1, 5), bool)
    curves = precision_by_class(np.array([1] * 5), is_true, counted, np.array([0, 4, 2]))
    assert curves.shape == (3, 1, 101)
    assert np.isnan(curves[0]).all()
    assert (curves[2] == 0).all()
    expected = np.where(RECALL_LEVELS <= 0.25, 1, np.where(RECALL_LEVELS <= 0.75, 3 / 4, 0))
    assert np.allclose(curves[1, 0], expected, atol=1e-12)


def test_a_detection_that_does_not_count_changes_nothing() -> None:
    is_true = np.array([[False, True, False, True]])
    assert np.allclose(precision_by_class(np.zeros(4, int), is_true, is_true, np.array([2])), 1)
