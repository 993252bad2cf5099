"""What pydantic refuses is said in one short line."""

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from rfdetr_hwd.config.validation import first_problem


class Inner(BaseModel, strict=True, extra="forbid"):
    number: int = 0

    @field_validator("number")
    @classmethod
    def _refuse_13(cls, value: int) -> int:
        if value == 13:
            raise ValueError("13 is unlucky")
        return value


class Outer(BaseModel, strict=True, extra="forbid"):
    inner: Inner
    names: list[str] = []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "inner is missing"),
        ('{"inner": {"more": 1}}', "inner.more: unknown key"),
        ('{"inner": {"a\\nb\\u001b": 1}}', r"inner.a\nb\x1b: unknown key"),
        ('{"inner": {"number": "1"}}', "inner.number = '1': input should be a valid integer"),
        ('{"inner": {"number": 13}}', "inner.number = 13: 13 is unlucky"),
        ('{"inner": {}, "names": ["a", 2]}', "names.1 = 2: input should be a valid string"),
        ('{"inner": []}', "inner = []: input should be an object"),
    ],
)
def test_the_first_problem_names_key_value_and_reason(text: str, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(text)
    assert first_problem(caught.value) == problem


def test_a_line_is_short_whatever_the_enemy_writes() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": {}, "x" * 10_000: "\n" * 10_000})
    assert len(first_problem(caught.value)) < 300
    with pytest.raises(ValidationError) as caught:
        Inner.model_validate({"number": "\n" * 10_000})
    assert len(first_problem(caught.value)) < 300
    assert "\n" not in first_problem(caught.value)
