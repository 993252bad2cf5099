from typing import Any

import pytest

from rfdetr_hwd.comparison.compare import ComparisonError
from rfdetr_hwd.comparison.matched import Facts, refuse_unmatched
from rfdetr_hwd.config.load import parse_config

VARIED = ("downsample.",)


def facts(*overrides: str, **values: Any) -> Facts:
    config = parse_config({"data": {"root": "d"}, "output": {"dir": "o"}}, overrides)
    return Facts(config, {"steps": 10, "training data": {"sha256": "a"}, **values})


def test_arms_may_differ_in_what_is_compared_in_seeds_and_in_what_changes_nothing() -> None:
    free = ("train.seed=4", "data.root=elsewhere", "output.dir=other", "evaluation.every=7", "train.log_every=3")
    refuse_unmatched({"a": [facts(), facts(*free)], "b": [facts("downsample.name=spd", *free)]}, VARIED)
    refuse_unmatched({"a": [facts()], "b": [facts("train.lr=1", steps=3)]}, ("train.lr", "steps"))
    refuse_unmatched({"a": [], "b": []}, VARIED)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (facts("train.lr=0.5"), "train.lr: 0.0001 and 0.5"),
        (facts("data.augment.flip=0.1"), "data.augment.flip: 0.5 and 0.1"),
        (facts(steps=11), "steps: 10 and 11\nTo compare them in this, add --vary steps"),
        (facts(**{"training data": {"sha256": "b"}}), "add --vary 'training data'"),
    ],
)
def test_any_other_difference_is_refused_by_name(other: Facts, message: str) -> None:
    for arms in ({"a": [facts()], "b": [other]}, {"a": [facts(), other], "b": [facts()]}):
        with pytest.raises(ComparisonError) as raised:
            refuse_unmatched(arms, VARIED)
        assert message in str(raised.value)


def test_an_unknown_key_allows_nothing() -> None:
    with pytest.raises(ComparisonError, match=r"--vary train\.epohcs: unknown key"):
        refuse_unmatched({"a": [facts()], "b": [facts()]}, ("train.epohcs",))
