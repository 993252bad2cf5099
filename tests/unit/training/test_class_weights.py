"""Class weights are found by name, or from the number of objects."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rfdetr_hwd.config.load import parse_config
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.training.class_weights import find_class_weights, say_class_weights


def split(*labels: int, unusable: int = 0) -> Any:
    usable = np.arange(len(labels)) < len(labels) - unusable
    return SimpleNamespace(
        name="train", class_names=("car", "bus", "tram"), labels=np.array(labels), usable=lambda: usable
    )


def test_balanced_by_hand() -> None:
    """8 objects of two classes, 4 on average: 4 / 6 and 4 / 2. An object weighs 1 on average."""
    weights = find_class_weights("balanced", split(0, 0, 0, 0, 0, 0, 1, 1, 0, unusable=1))
    assert weights == pytest.approx((4 / 6, 2, 1))
    assert find_class_weights("balanced", split(0, 1, 2)) == (1, 1, 1)


def test_names_and_others() -> None:
    assert find_class_weights({"bus": 2.5}, split(0, 1)) == (1, 2.5, 1)
    assert find_class_weights(None, split(0)) is None
    with pytest.raises(ConfigError, match=r"train has no class 'buss'; the nearest is 'bus'"):
        find_class_weights({"buss": 2.0}, split(0))


def test_they_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    say_class_weights((1.0, 2.5, 0.75), split(0))
    assert capsys.readouterr().out == "class weights of the classification loss: bus 2.5, car 1, tram 0.75\n"
    say_class_weights(None, split(0))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", ["{bus: 0}", "{bus: -1}", "equal", "[1, 2]", "{bus: .inf}"])
def test_other_values_are_refused(value: str) -> None:
    values = {"data": {"root": "x"}, "output": {"dir": "y"}}
    assert parse_config(values, ["train.class_weights={bus: 2}"]).train.class_weights == {"bus": 2.0}
    with pytest.raises(ConfigError, match=r"train.class_weights"):
        parse_config(values, [f"train.class_weights={value}"])
