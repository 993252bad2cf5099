"""Strict types of untrusted values, and plain words for what pydantic refuses."""

import reprlib
from typing import Annotated

from pydantic import Field, StrictInt, ValidationError
from pydantic_core import ErrorDetails

Count = Annotated[StrictInt, Field(ge=0)]
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A number, whole or not."""


def reason(detail: ErrorDetails) -> str:
    """Return why a value is refused, to go on a sentence."""
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return detail["msg"][0].lower() + detail["msg"][1:]


def first_problem(error: ValidationError) -> str:
    """Return the first problem of untrusted values in one short line: the key, the value and the reason."""
    detail = error.errors(include_url=False)[0]
    key = repr(".".join(map(str, detail["loc"])))[1:-1][:200]
    match detail["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{key}: unknown key"
        case _:
            return f"{key} = {reprlib.repr(detail['input'])}: {reason(detail)}"
