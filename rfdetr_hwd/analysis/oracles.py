"""What each type of error costs: the AP50 that fixing this type alone would add (TIDE, ECCV 2020, section 2.3)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.average_precision import precision_by_class
from rfdetr_hwd.analysis.errors import BADLY_PLACED, KINDS, MISSED, WRONG_CLASS, Errors
from rfdetr_hwd.analysis.overlaps import Overlaps
from rfdetr_hwd.evaluation.matching import Matches


@dataclass(frozen=True)
class Costs:
    """AP50 that is lost to each type of error. The types are fixed one at a time, so the costs do not add up.

    Attributes:
        ap50: AP50 of the run, from 0 to 1; `None`: no ground truth.
        by_kind: Gain of fixing each type of `KINDS`; it can be slightly negative.
        by_class: The same for each class, shape (C,). NaN: a class without ground truth.
        false_positives: Gain of removing all false positives.
        false_negatives: Gain of removing all objects that are not found.
    """

    ap50: float | None
    by_kind: dict[str, float]
    by_class: dict[str, NDArray[np.float64]]
    false_positives: float
    false_negatives: float


@dataclass(frozen=True)
class _Outcomes:
    category: NDArray[np.int64]
    is_true: NDArray[np.bool_]
    is_counted: NDArray[np.bool_]
    num_objects: NDArray[np.int64]


def error_costs(matches: Matches, overlaps: Overlaps, errors: Errors) -> Costs:
    """Compute the cost of each type of error.

    A class all of whose objects are removed by an oracle has AP 1 without false positives, else 0.

    Args:
        matches: Matches of the run.
        overlaps: Their overlaps.
        errors: Errors of all detections, without a confidence threshold.
    """
    counted = ~matches.ignored[0, 0]
    num_objects = matches.num_ground_truth[0].sum(axis=1).astype(np.int64)
    base = _Outcomes(matches.category.astype(np.int64), matches.matched[0, 0] & counted, counted, num_objects)
    before = _average_precisions(matches, base, num_objects)

    by_class = {
        kind: _average_precisions(matches, _fix(row, base, matches, overlaps, errors), num_objects) - before
        for row, kind in enumerate(KINDS)
    }
    num_found = np.bincount(base.category[base.is_true], minlength=len(num_objects))
    perfect = _Outcomes(base.category, base.is_true, base.is_true, num_objects)
    complete = _Outcomes(base.category, base.is_true, counted, num_found)
    return Costs(
        ap50=_mean(before) if num_objects.any() else None,
        by_kind={kind: _mean(gains) for kind, gains in by_class.items()},
        by_class=by_class,
        false_positives=_mean(_average_precisions(matches, perfect, num_objects) - before),
        false_negatives=_mean(_average_precisions(matches, complete, num_objects) - before),
    )


def _fix(kind: int, base: _Outcomes, matches: Matches, overlaps: Overlaps, errors: Errors) -> _Outcomes:
    """Return the outcomes with one type of error fixed."""
    category, is_true, is_counted = base.category.copy(), base.is_true.copy(), base.is_counted.copy()
    if kind == MISSED:
        missed = np.bincount(overlaps.objects.category[errors.missed], minlength=len(base.num_objects))
        return _Outcomes(category, is_true, is_counted, base.num_objects - missed)
    is_counted[errors.kind == kind] = False
    if kind in (WRONG_CLASS, BADLY_PLACED):
        fixed = _first_of_each_target(matches, errors)
        fixed = fixed[errors.kind[fixed] == kind]
        category[fixed] = overlaps.objects.category[errors.target[fixed]]
        is_true[fixed] = is_counted[fixed] = True
    return _Outcomes(category, is_true, is_counted, base.num_objects)


def _first_of_each_target(matches: Matches, errors: Errors) -> NDArray[np.int64]:
    """Return the best detection by score of each object that a wrong class or place keeps from being found.

    One detection can find an object. The others would be duplicates, and fixing them removes them.
    """
    is_fixable = (errors.kind == WRONG_CLASS) | (errors.kind == BADLY_PLACED)
    rows = np.flatnonzero(is_fixable & ~errors.is_found[errors.target]) if len(errors.is_found) else np.zeros(0, int)
    rows = rows[np.lexsort((-matches.score[rows], errors.target[rows]))]
    return rows[np.unique(errors.target[rows], return_index=True)[1]]


def _average_precisions(matches: Matches, outcomes: _Outcomes, num_objects: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the AP of each class, shape (C,). NaN: a class that had no ground truth before."""
    rows = np.flatnonzero(outcomes.is_counted)
    if (outcomes.category != matches.category).any():  # else they are in order
        rows = rows[np.lexsort((-matches.score[rows], outcomes.category[rows]))]
    curves = precision_by_class(
        outcomes.category[rows], outcomes.is_true[None, rows], np.ones((1, len(rows)), bool), outcomes.num_objects
    )
    has_detections = np.bincount(outcomes.category[rows], minlength=len(num_objects)) > 0
    result: NDArray[np.float64] = curves.mean(axis=(1, 2))
    result = np.where(outcomes.num_objects > 0, result, np.where(has_detections, 0.0, 1.0))
    result[num_objects == 0] = np.nan
    return result


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0
