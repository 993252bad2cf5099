"""Compare arms: what matches, what differs, and where."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from rfdetr_hwd.analysis.analyse import Analysis, analyse
from rfdetr_hwd.analysis.errors import KINDS
from rfdetr_hwd.analysis.sizes import metrics_by_size
from rfdetr_hwd.comparison.compare import compare_arms, refuse_other_truth
from rfdetr_hwd.comparison.matched import refuse_unmatched
from rfdetr_hwd.comparison.measured import Measured
from rfdetr_hwd.comparison.pairing import pair_seeds
from rfdetr_hwd.comparison.results import ArmResult, Comparison
from rfdetr_hwd.comparison.robustness import compare_robustness
from rfdetr_hwd.comparison.verdict import Verdict, adjust
from rfdetr_hwd.config.experiment import ComparisonSection
from rfdetr_hwd.evaluation.matching import Matches, match
from rfdetr_hwd.evaluation.weighted_metrics import coco_metrics

RESAMPLES = 1000


def compare_measured(
    arms: Mapping[str, Sequence[Measured]], settings: ComparisonSection, varied: Sequence[str]
) -> Comparison:
    """Return the comparison of every arm with the baseline.

    Args:
        arms: The measured runs of each arm.
        settings: The baseline, the metrics and the margin. Without a baseline, it is the first arm.
        varied: Keys of the configuration that the arms may differ in. A key that ends in a dot stands for a section.

    Raises:
        ComparisonError: The arms do not match, have no seeds in common, or were evaluated on other images.
    """
    baseline, metrics, margin = settings.baseline or next(iter(arms)), settings.metrics, settings.margin
    # Refuse runs that differ in more than what is compared, and pair the others.
    refuse_unmatched({arm: [run.facts for run in runs if run.facts] for arm, runs in arms.items()}, varied)
    paired, notes = pair_seeds(arms)
    # Match the detections of each run once.
    matches = {
        arm: {seed: match(run.ground_truth, run.detections) for seed, run in runs.items()}
        for arm, runs in paired.items()
    }
    refuse_other_truth(matches)
    measurements = {arm: {seed: run.robustness for seed, run in runs.items()} for arm, runs in paired.items()}
    robustness, not_compared = compare_robustness(measurements, baseline)
    # Judge every arm against the baseline, and describe where they differ.
    results = {}
    for arm in (baseline, *(name for name in arms if name != baseline)):
        verdicts: dict[str, Verdict | None] = {}
        by_class: dict[str, Verdict] = {}
        if arm != baseline:
            # One call for all, as the resamples of the images are what takes long.
            classes = [f"AP/{name}" for name in next(iter(matches[arm].values())).class_names]
            judged = compare_arms(matches[baseline], matches[arm], [*metrics, *classes], margin, RESAMPLES)
            verdicts = {name: judged[name] for name in metrics}
            by_class = adjust({name: verdict for name in classes if (verdict := judged[name]) is not None})
        analyses = [_analyse(run, matches[arm][seed]) for seed, run in paired[arm].items()]
        known = [analysis for analysis in analyses if analysis is not None]
        results[arm] = ArmResult(
            values=_values(matches[arm], metrics),
            verdicts=verdicts,
            by_class=by_class,
            error_costs=_mean_error_costs(known),
            by_size=_by_size(known),
            robustness=robustness[arm],
        )
    notes += [*not_compared, *_about_runs(arms)]
    return Comparison(baseline, results, metrics, _protocol(paired, margin), notes)


def _values(matches: Mapping[int, Matches], metrics: Sequence[str]) -> dict[str, dict[int, float | None]]:
    """Return each metric by seed."""
    by_seed = {seed: coco_metrics(of_run, metrics=metrics) for seed, of_run in matches.items()}
    return {name: {seed: values[name] for seed, values in by_seed.items()} for name in metrics}


def _analyse(run: Measured, matches: Matches) -> Analysis | None:
    """Return the analysis of a run; `None` for a result file, whose model's input is unknown."""
    resolution = run.protocol.get("resolution")
    if not isinstance(resolution, int):
        return None
    is_letterbox = str(run.protocol.get("preprocessing", "")).startswith("letterbox")
    resize: Literal["stretch", "letterbox"] = "letterbox" if is_letterbox else "stretch"
    return analyse(run.ground_truth, run.detections, matches, resolution, resize)


def _mean_error_costs(analyses: Sequence[Analysis]) -> dict[str, float]:
    """Return the AP50 that fixing each type of error would gain, as a mean over the seeds."""
    costs = [analysis.costs.by_kind for analysis in analyses]
    return {kind: float(np.mean([cost[kind] for cost in costs])) for kind in KINDS} if costs else {}


def _by_size(analyses: Sequence[Analysis]) -> list[dict[str, float | None]]:
    """Return AP and recall by deciles of the object size in model pixels, as means over the seeds."""
    by_seed = [metrics_by_size(analysis.matches, analysis.overlaps, analysis.sizes) for analysis in analyses]
    return [
        {
            "low": bins[0].low,
            "high": bins[0].high,
            "objects": bins[0].num_objects,
            "recall": float(np.mean([one.recall for one in bins])),
            "AP": float(np.mean([one.ap for one in bins])),
        }
        for bins in zip(*by_seed, strict=True)
    ]


def _protocol(paired: Mapping[str, Mapping[int, Measured]], margin: float) -> dict[str, Any]:
    runs = [run for by_seed in paired.values() for run in by_seed.values()]
    first = runs[0]
    return {
        "images": len(first.ground_truth["images"]),
        "objects": len(first.ground_truth["annotations"]),
        "seeds": list(next(iter(paired.values()))),
        "weights": first.protocol.get("weights", "as in the result files"),
        "steps": first.protocol.get("step", "unknown"),
        "interval": f"95 %, Student's t over seeds and images; {RESAMPLES} bootstrap resamples of the images",
        "equivalence": f"two one-sided tests within a margin of {margin:g}",
        "classes": "adjusted by Holm's method",
    }


def _about_runs(arms: Mapping[str, Sequence[Measured]]) -> list[str]:
    """Return notes about sources that say little about themselves, or that were selected."""
    notes = []
    for arm, runs in arms.items():
        if any(run.facts is None for run in runs):
            notes.append(f"{arm}: result files record no training, so it is unknown whether it matches the other arms")
        selected = [run.source.path for run in runs if run.source.path.name == "best"]
        if selected:
            notes.append(f"{arm}: {selected[0]} was selected by its AP on the validation images, which favours it")
    return notes
