"""Arms of boxes: copies are identical, a planted effect is found, and no order matters."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.comparison.compare import ComparisonError, compare_arms
from rfdetr_hwd.evaluation.matching import Matches, match
from tests.unit.comparison.detectors import detect, jitter, make_truth

TRUTH = make_truth(0, 80)


def run_arm(seeds: range, pixels: float = 0.0, truth: dict = TRUTH) -> dict[int, Matches]:
    return {seed: match(truth, jitter(detect(truth, seed), seed, pixels)) for seed in seeds}


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_two_copies_are_identical(num_seeds: int) -> None:
    runs = run_arm(range(num_seeds))
    for judged in compare_arms(runs, dict(runs), resamples=100).values():
        if judged is not None:
            assert (judged.difference, judged.low, judged.high) == (0, 0, 0)
            assert judged.verdict == "equivalent"
            assert judged.text == "identical: 0.000 [0.000, 0.000]"


def test_a_planted_jitter_is_found_as_localisation() -> None:
    verdicts = compare_arms(run_arm(range(3)), run_arm(range(3), pixels=2.0), ("AP", "AP50", "AP75"), resamples=300)
    assert verdicts["AP"].verdict == "worse"
    assert verdicts["AP75"].verdict == "worse"
    assert verdicts["AP75"].difference < 3 * verdicts["AP50"].difference
    assert verdicts["AP"].text.startswith("worse by 0.")


@pytest.mark.parametrize("first", range(4))
def test_seeds_of_one_arm_are_no_better_than_each_other(first: int) -> None:
    runs = run_arm(range(4 * first, 4 * first + 4))
    one, two, three, four = runs.values()
    for a, b in (({0: one}, {0: two}), ({0: one, 1: two}, {0: three, 1: four})):
        assert {judged.verdict for judged in compare_arms(a, b, ("AP", "AP50"), resamples=200).values()} <= {
            "undecided",
            "equivalent",
        }
    assert compare_arms({0: one}, {0: two}, ("AP",), resamples=200)["AP"].text.endswith(
        "the variance between seeds is unknown"
    )


@settings(max_examples=5, deadline=None)
@given(st.randoms())
def test_no_order_matters(random: object) -> None:
    """Arms, seeds, images, annotations, classes and detections."""
    truth = make_truth(1, 15)
    expected = compare_arms(run_arm(range(3), truth=truth), run_arm(range(3), 2.0, truth), ("AP", "AP/cat"), 0.005, 50)
    shuffled = {key: random.sample(values, len(values)) for key, values in truth.items()}
    seeds = random.sample(range(3), 3)
    arms = []
    for pixels in (0.0, 2.0):
        detections = {seed: jitter(detect(truth, seed), seed, pixels) for seed in seeds}
        order = np.random.default_rng(random.randrange(1000)).permutation(len(detections[0]))
        arms.append({seed: match(shuffled, found[order[order < len(found)]]) for seed, found in detections.items()})
    for name, judged in compare_arms(arms[0], arms[1], ("AP/cat", "AP"), 0.005, 50).items():
        assert len(arms[0][0]) == len(match(truth, detect(truth, 0)))
        assert judged == expected[name]
        mirrored = compare_arms(arms[1], arms[0], (name,), 0.005, 50)[name]
        assert (mirrored.difference, mirrored.low, mirrored.high) == (-judged.difference, -judged.high, -judged.low)


def test_a_metric_of_fewer_than_two_images_has_no_verdict() -> None:
    truth = make_truth(0, 12)
    lonely = {**truth, "annotations": [a for a in truth["annotations"] if a["category_id"] == 1 or a["image_id"] == 3]}
    runs = run_arm(range(2), truth=lonely)
    verdicts = compare_arms(runs, run_arm(range(2), 2.0, lonely), ("AP/cat", "AP/dog", "AP_large"), resamples=20)
    assert verdicts["AP/cat"] is not None
    assert verdicts["AP/dog"] is verdicts["AP_large"] is None


def test_runs_that_do_not_belong_together_are_refused() -> None:
    runs = run_arm(range(2))
    with pytest.raises(ComparisonError, match=r"the arms' seeds differ: \[0, 1\] and \[0\]; compare the same seeds"):
        compare_arms(runs, {0: runs[0]})
    with pytest.raises(ComparisonError, match="seeds differ"):
        compare_arms({}, {})
    fewer = replace(runs[1], num_ground_truth=runs[1].num_ground_truth + 1)
    with pytest.raises(
        ComparisonError, match="the arm second, seed 1, was evaluated on other objects than the arm first"
    ):
        compare_arms(runs, {0: runs[0], 1: fewer})
