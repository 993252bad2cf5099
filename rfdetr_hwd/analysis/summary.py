"""The three sentences that a report begins with: how good, what is lost to which error, which threshold to set."""

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.analysis.analyse import Analysis
from rfdetr_hwd.analysis.curves import precision_at_recall
from rfdetr_hwd.evaluation.bootstrap import Interval
from rfdetr_hwd.evaluation.thresholds import threshold_curve

SMALLEST_COST = 0.005
"""AP50 below this is not worth a sentence: it prints as 0.00."""
USUAL_THRESHOLD = 0.5
WIDE = 0.1
"""Range of thresholds from which on a flat F1 is said."""

_LOST_TO = {
    "missed": ("missed {}", "missed objects", "fixing missed objects"),
    "wrong class": ("wrong classes of {}", "wrong classes", "fixing wrong classes"),
    "badly placed": ("badly placed boxes of {}", "badly placed boxes", "fixing badly placed boxes"),
    "both": ("badly placed boxes of the wrong class {}", "badly placed boxes of the wrong class", "removing them"),
    "duplicate": ("duplicates of {}", "duplicates", "removing duplicates"),
    "background": ("background taken for {}", "detections of background", "removing detections of background"),
}
"""What is lost to: one class, all classes, and what the oracle does."""


def lead(analysis: Analysis, interval: Interval | None = None) -> list[str]:
    """Return three sentences.

    Args:
        analysis: The analysis of a run.
        interval: Interval of its AP.

    Returns:
        Plain text. Class names are the dataset's own: escape them.
    """
    return [_say_precision(analysis, interval), _say_costs(analysis), _say_threshold(analysis)]


def _say_precision(analysis: Analysis, interval: Interval | None) -> str:
    matches = analysis.matches
    images = _number(len(matches.image_ids), "image", "images")
    by_class = precision_at_recall(matches, iou=None).mean(axis=1)
    is_known = ~np.isnan(by_class)
    if not is_known.any():
        return f"AP is not defined: {images} without an object."
    # One image has no spread.
    interval = interval if len(matches.image_ids) > 1 else None
    between = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval else ""
    unknown = int((~is_known).sum())
    but = f" ({_number(unknown, 'class', 'classes')} of {len(is_known)} without an object)" if unknown else ""
    return f"AP {by_class[is_known].mean():.2f}{between} on {images}{but}."


def _say_costs(analysis: Analysis) -> str:
    costs, num_objects = analysis.costs, len(analysis.overlaps.objects)
    if costs.ap50 is None:
        return "The types of error have no cost: there is no object to find."
    if not analysis.errors.is_found.any():
        return f"Nothing is found: {_number(num_objects, 'object is', 'objects are')} without a correct detection."
    kind = max(costs.by_kind, key=lambda name: costs.by_kind[name])
    if costs.by_kind[kind] < SMALLEST_COST:
        return f"No type of error alone costs {SMALLEST_COST} AP50 or more."
    of_one, of_all, fix = _LOST_TO[kind]
    category = _main_class(costs.by_class[kind])
    lost_to = of_all if category is None else of_one.format(analysis.matches.class_names[category])
    if kind == "missed":
        lost_to += _say_size(analysis, category)
    return f"Most is lost to {lost_to}: {fix} would add {costs.by_kind[kind]:.2f} AP50."


def _main_class(gains: NDArray[np.float64]) -> int | None:
    """Return the class that at least half of the gains are of, if there is one."""
    gains = np.nan_to_num(gains).clip(0)
    category = int(gains.argmax())
    return category if gains[category] >= gains.sum() / 2 else None


def _say_size(analysis: Analysis, category: int | None) -> str:
    """Return a size under which most of the missed objects are, but not most of the others.

    It is the size where the fractions of missed objects and of all objects below it differ most (the statistic of
    Kolmogorov and Smirnov), and it is said if half of the missed objects are below and the fractions differ by 0.2.
    """
    sizes = analysis.sizes.objects
    is_asked = np.ones(len(sizes), bool) if category is None else analysis.overlaps.objects.category == category
    is_missed = np.zeros(len(sizes), bool)
    is_missed[analysis.errors.missed] = True
    bounds = np.unique(np.floor(sizes[is_asked & is_missed]) + 1)
    of_missed = _fraction_below(sizes[is_asked & is_missed], bounds)
    differences = of_missed - _fraction_below(sizes[is_asked], bounds)
    best = int(differences.argmax())
    return f" under {bounds[best]:.0f} px" if of_missed[best] >= 0.5 and differences[best] >= 0.2 else ""


def _fraction_below(sizes: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    below: NDArray[np.float64] = np.searchsorted(np.sort(sizes), bounds) / len(sizes)
    return below


def _say_threshold(analysis: Analysis) -> str:
    best = analysis.thresholds.overall
    if best is None:
        return "No confidence threshold is better than another: no detection is correct."
    rounded = round(best.threshold, 2)
    _, _, f1 = threshold_curve(analysis.matches).at(np.array([rounded, USUAL_THRESHOLD]))
    flat = f" F1 is within 0.01 of the best above {best.flat_low:.2f} and up to {best.flat_high:.2f}."
    is_flat = best.flat_high - best.flat_low >= WIDE
    usual = f" ({f1[1]:.2f} at {USUAL_THRESHOLD:.2f})" if rounded != USUAL_THRESHOLD else ""
    return f"Set the threshold to {rounded:.2f}: F1 {f1[0]:.2f} there{usual}.{flat if is_flat else ''}"


def _number(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
