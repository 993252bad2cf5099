"""What an evaluation measures beside COCO's metrics: shifts and corruptions.

Like the schema of a run, this module imports neither torch nor rfdetr.
"""

from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from rfdetr_hwd.config.section import Section
from rfdetr_hwd.errors import ConfigError


class Robustness(Section):
    """Which robustness is measured. By default, none."""

    shifts: Annotated[int, Field(ge=0, le=32)] = 0
    """Measure shifts of the model's input by 1 to this many pixels, to the right and down. 0: no shifts."""
    corruptions: bool = False
    """Measure corrupted images."""
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = (1, 2, 3, 4, 5)
    """Severities of the corruptions, from 1 (mild) to 5."""

    @field_validator("severities")
    @classmethod
    def _check_severities(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        if not severities or len(set(severities)) < len(severities):
            raise ValueError(f"must be one or more different severities, not {list(severities)}")
        return tuple(sorted(severities))


def read_robustness(shifts: int, corruptions: bool, severities: str | None) -> Robustness:
    """Return what the options of a command ask for.

    Args:
        shifts: Of `--shifts`, from 0 to 32.
        corruptions: Of `--corruptions`.
        severities: Of `--severities`, separated by commas; `None`: all of them.

    Raises:
        ConfigError: The severities are not different numbers from 1 to 5, or there are no corruptions to have them.
    """
    if severities is None:
        return Robustness(shifts=shifts, corruptions=corruptions)
    if not corruptions:
        raise ConfigError(f"--severities {severities} has no effect without --corruptions: add it")
    try:
        wanted = {"shifts": shifts, "corruptions": True, "severities": severities.split(",")}
        return Robustness.model_validate(wanted)
    except ValidationError:
        raise ConfigError(f"--severities {severities}: give different numbers from 1 to 5, such as 1,3,5") from None
