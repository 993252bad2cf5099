"""Read the values of JSON entries that annotation tools write in more than one way: numbers and ids, also as text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

Id = int | str
"""An id as entries refer to each other by it; see `read_id`."""

MAX_COORDINATE = 1e7
"""Bound on coordinates and, squared, on areas, in pixels: pycocotools' native code crashes on huge ones."""
MAX_NAME = 1024
"""Bound on the characters of names and of ids that are text."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,20}(\.0{0,20})?", re.ASCII)
_MAX_DIGITS = 60
_MAX_EXACT = 2**53  # the whole numbers that JSON's floating-point numbers hold exactly


def is_number(value: object, bound: float = MAX_COORDINATE) -> TypeGuard[float]:
    """Return whether a JSON value is a number of a size that pixels have."""
    return (type(value) is float or type(value) is int) and -bound < value < bound


def read_number(value: object, bound: float = MAX_COORDINATE) -> float | None:
    """Return the number that a JSON value is, or spells as text (`"996.0000"`).

    Args:
        value: The JSON value.
        bound: What its absolute value must be below.

    Returns:
        The number; `None` for anything else, also for `nan`, `inf`, truth values and digits of other scripts.
    """
    if type(value) is str:
        text = value.strip()
        value = float(text) if len(text) <= _MAX_DIGITS and _NUMBER.fullmatch(text) else None
    return value if is_number(value, bound) else None


def read_id(value: object) -> Id | None:
    """Return the id that a JSON value stands for.

    `3`, `3.0` and `"3"` are one id. Other text (a UUID, a name) is an id of its own.

    Returns:
        A whole number of 64 bits or text; `None` for anything else.
    """
    if type(value) is int:
        return value if -(2**63) <= value < 2**63 else None
    if type(value) is float and value.is_integer() and abs(value) <= _MAX_EXACT:
        return int(value)
    if type(value) is str:
        text = value.strip()
        if not _WHOLE.fullmatch(text):
            return text if 0 < len(text) <= MAX_NAME else None
        return read_id(int(text.partition(".")[0]))
    return None


def number_ids(places: Mapping[Id, int]) -> list[int]:
    """Return a number for each id: its own, or for text one after the largest number, by its place in the file."""
    last = max(0, max((key for key in places if isinstance(key, int)), default=0))
    return [key if isinstance(key, int) else last + 1 + place for key, place in places.items()]


def describe_texts(entry: Mapping[str, Any], ids: Sequence[str], numbers: Sequence[str]) -> str:
    """Return which ids and numbers of an entry are numbers written as text, for a message; empty if none are.

    Args:
        entry: The JSON object, whose values can be read.
        ids: Keys of its ids.
        numbers: Keys of its numbers, and of its lists of numbers.
    """
    keys = [key for key in ids if type(entry.get(key)) is str and type(read_id(entry[key])) is int]
    for key in numbers:
        value = entry.get(key)
        if value and (type(value) is str or type(value) is list and str in map(type, value)):
            keys.append(key)
    return f"{', '.join(keys)} written as text" if keys else ""


def is_name(value: object) -> TypeGuard[str]:
    """Return whether a JSON value is text that can be written: lone surrogates cannot."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
