"""Verdicts follow from the numbers, and say them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.comparison.interval import Estimate
from rfdetr_hwd.comparison.noise import seeds_needed, smallest_difference, spread
from rfdetr_hwd.comparison.verdict import Verdict, adjust, judge


def verdict(difference: float, seed: float, image: float, num_seeds: int = 5, margin: float = 0.005) -> Verdict:
    """Return the verdict of standard errors over seeds and over images."""
    return judge(Estimate(difference, seed**2, image**2, num_seeds, 1000), margin, {}, {})


@pytest.mark.parametrize(
    ("judged", "decision", "text"),
    [
        (verdict(0.012, 0, 0.004), "better", "better by 0.012 [0.004, 0.020]"),
        (verdict(-0.12, 0, 0.04), "worse", "worse by 0.120 [0.042, 0.198]"),
        (verdict(0.001, 0, 0.001), "equivalent", "equivalent within 0.005: +0.0010 [-0.0010, +0.0030]"),
        (verdict(0.002, 0, 0.0001), "equivalent", "equivalent within 0.005: +0.00200 [+0.00180, +0.00220]"),
        (verdict(0.012, 0.007, 0), "undecided", "undecided: +0.012 [-0.007, +0.031]; 5 more seeds"),
        (
            verdict(0.012, 0.007, 0.007),
            "undecided",
            "undecided: +0.012 [-0.011, +0.035]; more seeds alone do not decide, more images might",
        ),
        (
            verdict(0.012, 0, 0.004, 1),
            "undecided",
            "+0.012 [+0.004, +0.020], images only: the variance between seeds is unknown",
        ),
        (verdict(0, 0, 0), "equivalent", "identical: 0.000 [0.000, 0.000]"),
        (verdict(0, 0, 0, 1), "equivalent", "identical: 0.000 [0.000, 0.000]"),
        (verdict(0, 0, 0, margin=0), "equivalent", "identical: 0.000 [0.000, 0.000]"),
        (verdict(0.01, 0, 0), "better", "better by 0.010 [0.010, 0.010]"),
    ],
)
def test_verdicts(judged: Verdict, decision: str, text: str) -> None:
    assert (judged.verdict, judged.text) == (decision, text)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-0.02, 0.02), st.floats(0, 0.01), st.floats(0, 0.01), st.integers(1, 10), st.sampled_from([0.001, 0.01])
)
def test_a_verdict_is_its_interval_and_its_mirror(
    difference: float, seed: float, image: float, num_seeds: int, margin: float
) -> None:
    judged = verdict(difference, seed, image, num_seeds, margin)
    mirrored = verdict(-difference, seed, image, num_seeds, margin)
    opposite = {"better": "worse", "worse": "better"}
    assert mirrored.verdict == opposite.get(judged.verdict, judged.verdict)
    assert (mirrored.low, mirrored.high) == (-judged.high, -judged.low)
    assert (mirrored.p_value, mirrored.p_equivalent) == (judged.p_value, judged.p_equivalent)
    if num_seeds > 1 and min(abs(judged.low), abs(judged.high)) > 1e-9:
        assert (judged.p_value < 0.05) == (judged.low > 0 or judged.high < 0)
    if judged.verdict in ("better", "worse"):
        assert judged.low > 0 or judged.high < 0
    if judged.verdict == "equivalent":
        assert abs(difference) < margin
    if judged.more_seeds is not None:
        assert judged.verdict == "undecided"
        more = Estimate(difference, seed**2, image**2, num_seeds, 1000).with_seeds(num_seeds + judged.more_seeds)
        assert judge(more, margin, {}, {}).verdict != "undecided"


def test_noise_of_seeds_alone() -> None:
    """With a deviation of 0.004 a seed, 10 seeds show (2.262 + 0.883) 0.004 / sqrt(10) at 80 % power."""
    estimate = Estimate(0.0, 0.004**2 / 10, 0.0, 10, 1000)
    assert smallest_difference(estimate) == pytest.approx((2.2622 + 0.8834) * 0.004 / 10**0.5, rel=1e-3)
    needed = seeds_needed(estimate, 0.005)
    assert needed == 8  # of 7 and 8 seeds: (2.447 + 0.906) 0.00151 = 0.00507, (2.365 + 0.896) 0.00141 = 0.00461
    assert seeds_needed(estimate, 0.00001) is None
    assert seeds_needed(Estimate(0.0, 0.0, 0.004**2, 10, 1000), 0.005) is None  # the images' part alone
    assert smallest_difference(Estimate(0.0, 0.0, 0.004**2, 1, 1000)) is None


def test_spread_of_an_arm() -> None:
    over = spread({2: 0.5, 0: 0.4, 1: 0.45})
    assert (over.mean, over.low, over.high) == (pytest.approx(0.45), 0.4, 0.5)
    assert over.deviation == pytest.approx(0.05)
    assert spread({0: 0.4}).deviation is None


def test_holm_is_a_worked_example_and_keeps_no_claim_it_cannot() -> None:
    """p of 0.0027, 0.0124 and 0.0455: times 3, 2 and 1: 0.0081, 0.0248, 0.0455. A fourth raises all."""
    family = {name: verdict(d, 0, 0.001, margin=0.0) for name, d in (("a", 0.003), ("b", -0.0025), ("c", 0.002))}
    assert [judged.verdict for judged in family.values()] == ["better", "worse", "better"]
    three = adjust(family)
    assert [round(judged.p_value, 3) for judged in three.values()] == [0.008, 0.025, 0.046]
    assert [judged.verdict for judged in three.values()] == ["better", "worse", "better"]
    four = adjust({"d": verdict(0.0, 0, 0.001, margin=0.0), **family})
    assert [judged.verdict for judged in four.values()] == ["undecided", "better", "worse", "undecided"]
    assert four["b"].text == "worse by 0.0025 [0.0005, 0.0045] (Holm over 4)"
    assert four["c"].text == "undecided: +0.0020 [0.0000, +0.0040] (Holm over 4)"


def test_holm_adjusts_equivalence_too() -> None:
    near = verdict(0.003, 0, 0.001)  # inside 0.005, p 0.023; away from 0, p 0.003
    assert near.verdict == "equivalent"
    assert adjust({"a": near, "b": near, "c": near})["a"].verdict == "better"
    same = verdict(0, 0, 0)
    assert [judged.text for judged in adjust({str(i): same for i in range(5)}).values()] == [same.text] * 5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-0.005, 0.005), min_size=1, max_size=6), st.randoms())
def test_the_order_of_a_family_does_not_matter(differences: list[float], random: object) -> None:
    family = {str(i): verdict(d, 0, 0.001) for i, d in enumerate(differences)}
    names = list(family)
    random.shuffle(names)
    assert adjust({name: family[name] for name in names}) == adjust(family)
