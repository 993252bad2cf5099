"""Robustness of arms, by numbers worked out by hand."""

import math
from typing import Any

import pytest

from rfdetr_hwd.comparison.robustness import Measurement, compare_robustness, read_measurement, robustness_cells
from rfdetr_hwd.config.robustness import Robustness
from rfdetr_hwd.data.corruptions import KINDS


def recorded(kept: float | None = 0.5, shifts: int = 2, severities: tuple[int, ...] = (1, 3)) -> dict[str, Any]:
    """What `metrics.json` holds; AP at the worst shift is half of what is kept."""
    worst = None if kept is None else kept / 2
    return {
        "shifts": {
            **{"threshold": 0.5, "AP": [0.5] * (shifts + 1), "kept": [kept] * shifts},
            **{"kept_mean": kept, "score_change_mean": None, "AP_worst": worst, "AP_best": 0.5},
        },
        "corruptions": {
            **{"seed": 0, "AP": {kind: {str(severity): 0.2 for severity in severities} for kind in KINDS}},
            **{"mPC": 0.2, "rPC": 0.4},
        },
    }


def arm(*kept: float | None, **options: Any) -> dict[int, Measurement]:
    return {seed: read_measurement(recorded(value, **options)) for seed, value in enumerate(kept)}


def test_differences_are_paired_by_seed() -> None:
    compared, notes = compare_robustness({"a": arm(0.4, 0.6), "b": arm(0.5, 0.9)}, "a")
    assert notes == []
    kept = compared["b"]["kept_mean"]
    assert (kept.mean, compared["a"]["kept_mean"].mean) == (pytest.approx(0.7), pytest.approx(0.5))
    assert kept.difference is not None
    assert kept.difference.by_seed == pytest.approx({0: 0.1, 1: 0.3})
    assert (kept.difference.spread.low, kept.difference.spread.high) == pytest.approx((0.1, 0.3))
    half = 12.7062 * (0.2 / math.sqrt(2)) / math.sqrt(2)  # Student's t of one degree of freedom
    assert kept.difference.interval == pytest.approx((0.2 - half, 0.2 + half), abs=1e-5)
    assert compared["a"]["kept_mean"].difference is None
    assert compared["b"]["score_change_mean"] == compared["a"]["score_change_mean"]
    assert [row[0] for row in robustness_cells(compared["b"])] == [
        *("kept_mean", "score_change_mean", "AP_worst", "AP_best", "mPC", "rPC")
    ]
    assert robustness_cells(compared["b"])[0] == (
        "kept_mean",
        "0.7000",
        "+0.2000 [+0.1000, +0.3000]",
        "[-1.0706, +1.4706]",
    )
    assert robustness_cells(compared["b"])[1] == ("score_change_mean", "-", "-", "-")


def test_one_seed_has_no_interval() -> None:
    compared, _ = compare_robustness({"a": arm(0.4), "b": arm(0.5)}, "a")
    assert compared["b"]["kept_mean"].difference.interval is None
    assert robustness_cells(compared["b"])[0] == ("kept_mean", "0.5000", "+0.1000 [+0.1000, +0.1000]", "-")


def test_seeds_without_a_value_are_in_no_pair() -> None:
    compared, _ = compare_robustness({"a": arm(None, 0.4, 0.5), "b": arm(0.8, 0.5, None)}, "a")
    assert compared["b"]["kept_mean"].difference.by_seed == pytest.approx({1: 0.1})
    assert compared["b"]["kept_mean"].mean == pytest.approx(0.65)


def test_what_was_measured_otherwise_is_not_compared() -> None:
    compared, notes = compare_robustness({"a": arm(0.4, severities=(1,)), "b": arm(0.5)}, "a")
    assert [*compared["b"]] == ["kept_mean", "score_change_mean", "AP_worst", "AP_best"]
    assert notes == [
        "corruptions are not compared: the runs were measured with different ones. "
        "Measure all runs with the same options"
    ]
    compared, notes = compare_robustness({"a": arm(0.4), "b": {0: Measurement()}}, "a")
    assert compared == {"a": {}, "b": {}}
    assert [note.split(".")[0] for note in notes] == [
        "shifts are not compared: b has none",
        "corruptions are not compared: b has none",
    ]
    assert compare_robustness({"a": {0: Measurement()}, "b": {0: Measurement()}}, "a") == ({"a": {}, "b": {}}, [])


def test_an_evaluation_covers_what_it_measured() -> None:
    found = read_measurement(recorded())
    assert found.covers(Robustness())
    assert found.covers(Robustness(shifts=2))
    assert found.covers(Robustness(shifts=2, corruptions=True, severities=(3, 1)))
    assert not found.covers(Robustness(shifts=8))
    assert not found.covers(Robustness(corruptions=True))
    assert read_measurement({}).covers(Robustness())
    assert not read_measurement({}).covers(Robustness(shifts=2))


@pytest.mark.parametrize("broken", [None, [], 3, {"shifts": 1}, {"corruptions": {"AP": {"contrast": [0.1]}}}])
def test_what_cannot_be_read_was_not_measured(broken: object) -> None:
    assert read_measurement(broken) == Measurement()
