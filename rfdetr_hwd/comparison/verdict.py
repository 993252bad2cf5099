"""What the runs of two arms say about one metric: better, worse, equivalent within a margin, or undecided."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from rfdetr_hwd.analysis.holm import adjust_by_holm
from rfdetr_hwd.comparison.interval import Estimate
from rfdetr_hwd.comparison.noise import TAIL, fewest_seeds, seeds_needed, smallest_difference

PLANNED = (0.001, 0.003, 0.005)
"""Differences whose number of seeds is reported: 0.1, 0.3 and 0.5 points of AP."""
_LEVEL = 0.05
Decision = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class Verdict:
    """The judgement of one metric. A difference is the second arm less the first.

    Attributes:
        difference: Mean paired difference over the seeds.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        verdict: `equivalent`: inside the margin, by two one-sided tests at 5 %. Else `better` or `worse`: the interval
            is away from 0. Else `undecided`, as with one seed, unless its two runs are identical.
        text: The verdict with its numbers, one line.
        margin: Differences below it do not matter.
        p_value: Two-sided p-value of no difference; adjusted, if the verdict is one of a family.
        p_equivalent: p-value of a difference of the margin or more; adjusted, if the verdict is one of a family.
        num_seeds: Number of seeds.
        images_only: There is one seed, and the interval holds the share of the images alone.
        more_seeds: Seeds to add to an undecided comparison until the interval is away from 0 or inside the margin, if
            difference and variances stay; `None`: not undecided, unknown, or more seeds alone do not decide.
        smallest_difference: Smallest true difference that these runs show at 80 % power; `None` with one seed.
        seeds_needed: For each of `PLANNED`, the seeds that show it at 80 % power; `None`: none does on these images.
        seeds_a: The metric of each seed of the first arm.
        seeds_b: The metric of each seed of the second arm.
        family: Number of verdicts that share the error of 5 % by Holm's method; 1: this one alone.
    """

    difference: float
    low: float
    high: float
    verdict: Decision
    text: str
    margin: float
    p_value: float
    p_equivalent: float
    num_seeds: int
    images_only: bool
    more_seeds: int | None
    smallest_difference: float | None
    seeds_needed: dict[float, int | None]
    seeds_a: dict[int, float]
    seeds_b: dict[int, float]
    family: int = 1


def judge(estimate: Estimate, margin: float, seeds_a: Mapping[int, float], seeds_b: Mapping[int, float]) -> Verdict:
    """Return the verdict of one metric.

    Args:
        estimate: The mean difference with its variances.
        margin: Differences below it do not matter, at least 0.
        seeds_a: The metric of each seed of the first arm.
        seeds_b: The metric of each seed of the second arm.
    """
    half = estimate.half_width(TAIL)
    judged = Verdict(
        difference=estimate.difference,
        low=max(-1.0, estimate.difference - half),
        high=min(1.0, estimate.difference + half),
        verdict="undecided",
        text="",
        margin=margin,
        p_value=min(1.0, 2 * estimate.tail_beyond(abs(estimate.difference))),
        p_equivalent=estimate.tail_beyond(margin - abs(estimate.difference)),
        num_seeds=estimate.num_seeds,
        images_only=estimate.num_seeds == 1,
        more_seeds=None,
        smallest_difference=smallest_difference(estimate),
        seeds_needed={difference: seeds_needed(estimate, difference) for difference in PLANNED},
        seeds_a=dict(seeds_a),
        seeds_b=dict(seeds_b),
    )
    judged = replace(judged, verdict=_decide(judged))
    if judged.verdict == "undecided":
        judged = replace(judged, more_seeds=_more_seeds(estimate, margin))
    return replace(judged, text=_describe(judged))


def adjust(verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    """Return the verdicts of a family, such as all classes or slices, adjusted by Holm's method.

    The probability of one false "better" or "worse" among all is 5 % at most, and that of one false "equivalent" too.
    Intervals stay those of one comparison.
    """
    p_values = adjust_by_holm([judged.p_value for judged in verdicts.values()])
    p_equivalent = adjust_by_holm([judged.p_equivalent for judged in verdicts.values()])
    adjusted = {}
    for (name, alone), p, q in zip(verdicts.items(), p_values, p_equivalent, strict=True):
        judged = replace(alone, p_value=p, p_equivalent=q, family=len(verdicts), more_seeds=None)
        judged = replace(judged, verdict=_decide(judged))
        adjusted[name] = replace(judged, text=_describe(judged))
    return adjusted


def _is_identical(judged: Verdict) -> bool:
    return judged.low == judged.high == 0


def _decide(judged: Verdict) -> Decision:
    """Return the decision. The margin comes first: a difference may be real and too small to matter."""
    if _is_identical(judged):
        return "equivalent"
    if judged.images_only:
        return "undecided"
    if judged.p_equivalent < _LEVEL:
        return "equivalent"
    if judged.p_value < _LEVEL:
        return "better" if judged.difference > 0 else "worse"
    return "undecided"


def _more_seeds(estimate: Estimate, margin: float) -> int | None:
    """Return the seeds to add until the comparison is decided, if the difference and its variances stay."""
    if estimate.num_seeds < 2:
        return None
    distance = abs(estimate.difference)

    def is_decided(num_seeds: int) -> bool:
        planned = estimate.with_seeds(num_seeds)
        return planned.half_width(TAIL) < distance or distance + planned.half_width(_LEVEL) < margin

    needed = fewest_seeds(is_decided, estimate.num_seeds + 1)
    return None if needed is None else needed - estimate.num_seeds


def _describe(judged: Verdict) -> str:
    """Return the verdict in one line. No verdict is without its interval."""
    digits = _digits(judged.high - judged.low)

    def signed(value: float) -> str:
        return f"{value:+.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"

    measured = f"{signed(judged.difference)} [{signed(judged.low)}, {signed(judged.high)}]"
    if _is_identical(judged):
        return f"identical: {measured}"
    if judged.images_only:
        return f"{measured}, images only: the variance between seeds is unknown"
    family = f" (Holm over {judged.family})" if judged.family > 1 else ""
    if judged.verdict == "equivalent":
        return f"equivalent within {judged.margin:g}: {measured}{family}"
    if judged.verdict == "undecided":
        return f"undecided: {measured}{_advice(judged)}{family}"
    low, high = sorted((abs(judged.low), abs(judged.high)))
    size = f"{abs(judged.difference):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{judged.verdict} by {size}{family}"


def _advice(judged: Verdict) -> str:
    if judged.family > 1:
        return ""
    if judged.more_seeds is None:
        return "; more seeds alone do not decide, more images might"
    return f"; {judged.more_seeds} more {'seed' if judged.more_seeds == 1 else 'seeds'}"


def _digits(width: float) -> int:
    """Return the number of decimals that show an interval's width in two digits, from 3 to 6."""
    return 3 if width == 0 else min(6, max(3, 1 - math.floor(math.log10(width))))
