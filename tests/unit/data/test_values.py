"""Numbers and ids are read also where they are written as text, and nothing else is taken for one."""

import pytest

from rfdetr_hwd.data.values import number_ids, read_id, read_number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (2.5, 2.5),
        ("996.0000", 996),
        (" 12 ", 12),
        ("-3.5", -3.5),
        ("+.5", 0.5),
        ("7.", 7),
        ("1e2", 100),
        *((value, None) for value in ("", "nan", "-Infinity", "1_000", "0x10", "1,5", "٣", "1 2", "1e9", "9" * 99)),
        *((value, None) for value in (True, None, [3], {"a": 3}, float("nan"), float("inf"), 1e7, 10**400)),
    ],
)
def test_what_is_a_number(value: object, number: float | None) -> None:
    assert read_number(value) == number
    assert type(read_number(value)) in (int, float, type(None))


@pytest.mark.parametrize(
    ("value", "key"),
    [
        *((value, 3) for value in (3, 3.0, "3", " 3 ", "003", "3.0", "+3")),
        ("-3", -3),
        ("9007199254740993", 9007199254740993),  # exact, where a float would not be
        *((value, value) for value in ("3.5", "a3", "1e3", "b1946ac9-2492", "猫", "9" * 40)),
        *((value, None) for value in ("", "  ", "x" * 1025, 3.5, 2.0**60, 2**63, str(2**63), True, None, [3], {})),
    ],
)
def test_what_is_an_id(value: object, key: int | str | None) -> None:
    assert read_id(value) == key
    assert type(read_id(value)) is type(key)


def test_ids_that_are_no_numbers_get_numbers_of_their_own() -> None:
    assert number_ids({7: 0, 3: 1}) == [7, 3]
    assert number_ids({"b": 0, "a": 1, "c": 3}) == [1, 2, 4]
    assert number_ids({"a": 0, 1: 1, "b": 2}) == [2, 1, 4]
    assert number_ids({"a": 0, -5: 1}) == [1, -5]
