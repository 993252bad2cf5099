"""run.json: an entry for each start of a run, with how it ended. It is a log, which must not stop a run."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rfdetr_hwd.errors import writing
from rfdetr_hwd.files import UntrustedFileError, read_json_object, replace_text

logger = logging.getLogger(__name__)


def add_start(path: Path, entry: Mapping[str, Any]) -> None:
    """Append an entry: what the run was started, or continued, with.

    Raises:
        ConfigError: The file cannot be written.
    """
    with writing("output.dir", path):
        replace_text(path, json.dumps({"starts": [*_starts(path), entry]}, indent=2))


def add_end(path: Path, entry: Mapping[str, Any]) -> None:
    """Enter how the newest start ended, as its `end`; where it cannot be written, that alone is lost."""
    *before, newest = _starts(path) or [{}]
    try:
        replace_text(path, json.dumps({"starts": [*before, {**newest, "end": entry}]}, indent=2))
    except OSError as error:  # which must not hide why the run ends
        logger.warning("cannot write %s: %s", path, error.strerror)


def _starts(path: Path) -> list[dict[str, Any]]:
    try:
        return [dict(start) for start in read_json_object(path)["starts"]] if path.exists() else []
    except (OSError, UntrustedFileError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s cannot be read and is started again: %s", path, error)
        return []
