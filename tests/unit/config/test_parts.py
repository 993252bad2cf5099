"""A part of the training images is one of several of equal size, or refused with the way out."""

import pytest

from rfdetr_hwd.config.load import parse_config
from rfdetr_hwd.config.parts import number_of_parts
from rfdetr_hwd.errors import ConfigError


def parse(**data: object) -> None:
    parse_config({"data": {"root": "x", **data}, "output": {"dir": "y"}})


@pytest.mark.parametrize(("fraction", "number"), [(0.5, 2), (0.33, 3), (1 / 3, 3), (0.2, 5), (0.167, 6), (0.01, 100)])
def test_a_fraction_is_a_number_of_parts(fraction: float, number: int) -> None:
    assert number_of_parts(fraction) == number
    parse(val_fraction=fraction, val_part=number)
    with pytest.raises(ConfigError, match="val_part"):
        parse(val_fraction=fraction, val_part=number + 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"val_part": 1}, "data: val_part needs val_fraction, such as 0.2 for 5 parts"),
        (
            {"val_part": 1, "val_fraction": 0.3},
            "val_fraction 0.3 makes no equal parts. With val_part, set 0.5, 0.33",
        ),
        ({"val_part": 1, "val_fraction": 0.99}, "val_fraction 0.99 makes no equal parts"),
        ({"val_part": 6, "val_fraction": 0.2}, "val_part 6: val_fraction 0.2 makes 5 parts, numbered from 1"),
        ({"val_part": 0, "val_fraction": 0.2}, "data.val_part = 0"),
    ],
)
def test_a_part_that_does_not_exist_is_refused(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(**data)
    assert message in str(caught.value)
