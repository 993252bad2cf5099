from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rfdetr_hwd.comparison.compare import ComparisonError
from rfdetr_hwd.comparison.judgement import compare_measured
from rfdetr_hwd.comparison.matched import Facts
from rfdetr_hwd.comparison.measured import Measured
from rfdetr_hwd.comparison.page import build_comparison_page
from rfdetr_hwd.comparison.pairing import pair_seeds
from rfdetr_hwd.comparison.sources import Source
from rfdetr_hwd.config.experiment import ComparisonSection
from rfdetr_hwd.config.load import parse_config
from tests.unit.comparison.detectors import detect, jitter, make_truth

TRUTH = make_truth(0, 60)
PROTOCOL = {"resolution": 128, "preprocessing": "stretch into a square", "weights": "ema", "step": 7}


def run(arm: str, seed: int, pixels: float = 0.0, is_file: bool = False, **facts: Any) -> Measured:
    config = parse_config({"data": {"root": "d"}, "output": {"dir": "o"}, "train": {"seed": seed}})
    return Measured(
        source=Source(arm, Path(f"{arm}-{seed}"), "results" if is_file else "run"),
        ground_truth=TRUTH,
        detections=jitter(detect(TRUTH, seed), seed, pixels),
        protocol={} if is_file else PROTOCOL,
        facts=None if is_file else Facts(config, {"steps": 7, **facts}),
        checkpoint=None,
    )


def test_a_planted_jitter_is_worse_and_the_page_says_localisation() -> None:
    arms = {"still": [run("still", seed) for seed in range(3)], "jittered": [run("jittered", s, 2.0) for s in range(3)]}
    comparison = compare_measured(arms, ComparisonSection(metrics=("AP", "AP75")), ("downsample.",))
    verdicts = comparison.arms["jittered"].verdicts
    assert verdicts["AP"] is not None
    assert verdicts["AP"].verdict == "worse"
    still, jittered = (comparison.arms[name].error_costs for name in ("still", "jittered"))
    changes = {kind: jittered[kind] - still[kind] for kind in still}
    assert max(changes, key=lambda kind: changes[kind]) == "badly placed"
    assert comparison.lead()[0].startswith("jittered against still, AP: worse by 0.")
    page = build_comparison_page(comparison)
    assert "most of it is badly placed" in page


def test_seeds_are_paired_and_what_is_missing_is_named() -> None:
    paired, notes = pair_seeds({"a": [run("a", 2), run("a", 0)], "b": [run("b", 0), run("b", 1), run("b", 2)]})
    assert {arm: list(runs) for arm, runs in paired.items()} == {"a": [0, 2], "b": [0, 2]}
    assert notes == ["seed 1 of b is skipped: not every arm has it"]


def test_result_files_and_other_seeds_are_paired_in_their_order() -> None:
    paired, notes = pair_seeds({"a": [run("a", 0, is_file=True)], "b": [run("b", 0, is_file=True)]})
    assert (list(paired["a"]), notes) == ([0], [])
    paired, notes = pair_seeds({"a": [run("a", 3)], "b": [run("b", 4)]})
    assert list(paired["b"]) == [0]
    assert "no seed in common (a [3], b [4])" in notes[0]
    with pytest.raises(ComparisonError, match="no seed in common"):
        pair_seeds({"a": [run("a", 3)], "b": [run("b", 4), run("b", 5)]})
    with pytest.raises(ComparisonError, match="two runs of a have the seed 3"):
        pair_seeds({"a": [run("a", 3), run("a", 3)], "b": [run("b", 3)]})


def test_an_arm_of_other_images_is_named() -> None:
    arms = {"a": [run("a", 0)], "b": [replace(run("b", 0), ground_truth=make_truth(0, 61))]}
    with pytest.raises(ComparisonError, match="the arm b, seed 0, was evaluated on other images than the arm a: "):
        compare_measured(arms, ComparisonSection(), ("downsample.",))


def test_runs_that_do_not_match_are_refused_before_anything_is_computed() -> None:
    arms = {"a": [run("a", 0)], "b": [run("b", 0, classes=["cat"])]}
    arms["a"] = [run("a", 0, classes=["dog"])]
    with pytest.raises(ComparisonError, match=r'classes: \["dog"\] and \["cat"\]'):
        compare_measured(arms, ComparisonSection(), ("downsample.",))
