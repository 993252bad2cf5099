"""Compare two arms: the same seeds and the same images, one verdict for each metric."""

from collections.abc import Mapping, Sequence

import numpy as np

from rfdetr_hwd.comparison.two_level_bootstrap import estimate, resample_arm
from rfdetr_hwd.comparison.verdict import Verdict, judge
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.evaluation.matching import Matches
from rfdetr_hwd.evaluation.weighted_metrics import num_images_with

COMPARED = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


class ComparisonError(UserError):
    """Arms that cannot be compared: they are one and the same, do not match, or have other seeds or ground truth."""

    exit_code = 2


def compare_arms(
    runs_a: Mapping[int, Matches],
    runs_b: Mapping[int, Matches],
    metrics: Sequence[str] = COMPARED,
    margin: float = 0.005,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Verdict | None]:
    """Return the verdict of each metric on the second arm less the first.

    Args:
        runs_a: Matches of the first arm's runs by their seeds.
        runs_b: Matches of the second arm's runs. The seeds are the same.
        metrics: Names, of `METRICS` or `AP/<class name>`.
        margin: Differences below it do not matter.
        resamples: Number of resamples of the images.
        seed: Seed of the resamples.

    Returns:
        Verdicts by name; `None`: fewer than two images have ground truth of the metric.

    Raises:
        ComparisonError: The arms have other seeds, or a run was measured on other ground truth.
    """
    if not runs_a or runs_a.keys() != runs_b.keys():
        raise ComparisonError(f"the arms' seeds differ: {sorted(runs_a)} and {sorted(runs_b)}; compare the same seeds")
    refuse_other_truth({"first": runs_a, "second": runs_b})
    seeds = sorted(runs_a)
    matches = runs_a[seeds[0]]
    values_a, values_b = (resample_arm(runs, metrics, resamples, seed) for runs in (runs_a, runs_b))
    verdicts: dict[str, Verdict | None] = {}
    for name in metrics:
        num_images = num_images_with(matches, name)
        if num_images < 2:
            verdicts[name] = None
            continue
        by_seed = [dict(zip(seeds, values[name].measured.tolist(), strict=True)) for values in (values_a, values_b)]
        verdicts[name] = judge(estimate(values_b[name] - values_a[name], num_images), margin, *by_seed)
    return verdicts


def refuse_other_truth(arms: Mapping[str, Mapping[int, Matches]]) -> None:
    """Refuse runs that were not evaluated on the same images, classes and objects.

    Args:
        arms: Matches of each arm's runs by their seeds.

    Raises:
        ComparisonError: A run differs from the first one. The message names its arm and seed.
    """
    named = [(arm, seed, matches) for arm, runs in arms.items() for seed, matches in runs.items()]
    first_arm, _, first = named[0]
    for arm, seed, matches in named:
        for what, field in (("images", "image_ids"), ("classes", "category_ids"), ("objects", "num_ground_truth")):
            if not np.array_equal(getattr(matches, field), getattr(first, field)):
                raise ComparisonError(
                    f"the arm {arm}, seed {seed}, was evaluated on other {what} than the arm {first_arm}: evaluate all "
                    "runs on one split"
                )
