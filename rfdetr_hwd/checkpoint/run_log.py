"""run.json: one entry per start of a run, with its end. It is a log: a corrupt one does not stop a run."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from rfdetr_hwd.errors import writing
from rfdetr_hwd.files import read_json_object, replace_text

_STARTS = TypeAdapter(list[dict[str, Any]], config=ConfigDict(strict=True))

logger = logging.getLogger(__name__)


def add_start(path: Path, entry: Mapping[str, Any]) -> None:
    """Append the entry of a start.

    Raises:
        ConfigError: The file cannot be written.
    """
    with writing("output.dir", path):
        replace_text(path, json.dumps({"starts": [*read_starts(path), entry]}, indent=2))


def add_end(path: Path, entry: Mapping[str, Any]) -> None:
    """Record the end of the newest start. If it cannot be written, a warning is logged."""
    # The start may be missing, where the log was corrupt.
    *before, newest = read_starts(path) or [{}]
    try:
        replace_text(path, json.dumps({"starts": [*before, {**newest, "end": entry}]}, indent=2))
    except OSError as error:  # it must not hide why the run ends
        logger.warning("cannot write %s: %s", path, error.strerror)


def read_starts(path: Path) -> list[dict[str, Any]]:
    """Return the entry of each start of a run. A corrupt file is reported and counts as empty."""
    try:
        return _STARTS.validate_python(read_json_object(path).get("starts")) if path.exists() else []
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read and is started again: %s", path, " ".join(str(error).split()))
        return []


def read_end(path: Path) -> dict[str, Any]:
    """Return how the newest start of a run ended (`reason`, `message`, ...); empty if it trains or was killed."""
    *_, newest = read_starts(path) or [{}]
    end = newest.get("end", {})
    return end if isinstance(end, dict) else {}
