"""What every section of the configuration is made of. Imports neither torch nor rfdetr."""

from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Probability = Annotated[float, Field(ge=0, le=1)]


def _takes_booleans(annotation: Any) -> bool:
    return annotation is bool or any(map(_takes_booleans, get_args(annotation)))


class Section(BaseModel):
    """A part of the configuration: frozen, and every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's true and false are numbers to pydantic."""
        if isinstance(value, bool) and not _takes_booleans(cls.model_fields[info.field_name or ""].annotation):
            raise ValueError(f"must not be {str(value).lower()}")
        return value
