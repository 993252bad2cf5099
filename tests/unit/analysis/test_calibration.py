import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.analysis.calibration import calibrate, d_ece_by_size
from rfdetr_hwd.analysis.sizes import read_image_sizes
from tests.unit.analysis.hotcoco_tide import evaluated
from tests.unit.analysis.scenes import golden, matched, random_scene, scene

BOX, FAR, LARGE = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 10.0, 10.0], [100.0, 0.0, 100.0, 100.0]


def test_a_worked_example() -> None:
    """From 0.8 on: scores 0.8 and 0.9, one of them right. Below: 0.15, wrong. D-ECE = 2/3 * 0.35 + 1/3 * 0.15."""
    matches, _ = matched(*scene([(0, "cat", BOX)], [(0, "cat", BOX, 0.9), (0, "cat", FAR, 0.8), (0, "dog", BOX, 0.15)]))
    result = calibrate(matches, num_bins=5)
    assert result.edges.tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert result.count.tolist() == [1, 0, 0, 0, 2]
    assert np.allclose(result.mean_score, [0.15, np.nan, np.nan, np.nan, 0.85], equal_nan=True)
    assert np.allclose(result.precision, [0, np.nan, np.nan, np.nan, 0.5], equal_nan=True)
    assert result.d_ece == pytest.approx(2 / 3 * 0.35 + 1 / 3 * 0.15)
    assert calibrate(matches, num_bins=5, min_score=0.5).d_ece == pytest.approx(0.35)


def test_a_score_of_one_is_in_the_last_bin_and_crowds_do_not_count() -> None:
    matches, _ = matched(*scene([(0, "cat", BOX), (0, "dog", FAR, 1)], [(0, "cat", BOX, 1.0), (0, "dog", FAR, 0.7)]))
    result = calibrate(matches)
    assert result.count.tolist() == [0] * 9 + [1]
    assert result.d_ece == 0


def test_no_detections_have_no_calibration() -> None:
    matches, overlaps = matched(*scene([(0, "cat", BOX)], []))
    assert calibrate(matches).d_ece is None
    assert d_ece_by_size(matches, overlaps, np.array([[100, 200]])) is None


def test_errors_that_cancel_between_sizes_are_seen_by_size() -> None:
    """At score 0.5 the small box is wrong and the large one right: on average right, for each size wrong by 0.5."""
    truth, detections = scene([(0, "cat", LARGE)], [(0, "cat", LARGE, 0.5), (0, "cat", BOX, 0.5)])
    matches, overlaps = matched(truth, detections)
    assert calibrate(matches).d_ece == 0
    assert d_ece_by_size(matches, overlaps, read_image_sizes(truth, matches)) == pytest.approx(0.5)


def test_d_ece_of_the_golden_set_is_hotcocos() -> None:
    matches, _ = matched(*golden())
    reference = evaluated(*golden()).calibration()
    result = calibrate(matches)
    assert result.count.tolist() == [row["count"] for row in reference["bins"]]
    assert result.d_ece == pytest.approx(reference["ece"], abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_finer_bins_never_see_less(seed: int) -> None:
    truth, detections = random_scene(seed, crowds=0.2)
    matches, overlaps = matched(truth, detections)
    coarse, fine = calibrate(matches, num_bins=5).d_ece, calibrate(matches, num_bins=10).d_ece
    if coarse is not None:
        by_size = d_ece_by_size(matches, overlaps, read_image_sizes(truth, matches), num_bins=10)
        assert coarse <= fine + 1e-12
        assert fine <= by_size + 1e-12
