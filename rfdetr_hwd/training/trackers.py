"""Trackers of a run's metrics behind one protocol: metrics.jsonl here; see also `progress` and `tracking`."""

import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import PIL.Image

from rfdetr_hwd.files import open_without_links, replace_text
from rfdetr_hwd.training.speed import PREFIX

logger = logging.getLogger(__name__)

Values = Mapping[str, float | None]
"""Values by name; `None`: nothing to measure."""


Pictures = Mapping[str, PIL.Image.Image]
"""RGB pictures by name."""


class Tracker(Protocol):
    """Receives the values of a step, and pictures of predictions after an evaluation."""

    def log(self, step: int, values: Values) -> None: ...
    def show(self, step: int, pictures: Pictures) -> None: ...
    def close(self) -> None: ...


class NullTracker:
    """Tracks nothing. Ranks other than 0 use it."""

    def log(self, step: int, values: Values) -> None:
        """Do nothing."""

    def show(self, step: int, pictures: Pictures) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class JsonLinesTracker:
    """Appends each record to a file as one line of JSON. Lines are flushed: a killed run loses at most one record.

    The values of metrics.jsonl are the same to the bit in every run of a configuration. What differs from run to run,
    speed and memory, is in speed.jsonl.

    Args:
        path: The file; created when it is missing.
        last_step: Records of later steps are dropped first. A resumed run repeats those steps.
        is_evaluation_due: Also drop the evaluation of that step.
        is_speed: Write the values of speed, with the time, in place of all others.
    """

    def __init__(self, path: Path, last_step: int, is_evaluation_due: bool = False, is_speed: bool = False) -> None:
        self._is_speed = is_speed
        # Read the records of earlier starts. The last line may have been cut off by a kill.
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        damaged = [number for number, line in enumerate(lines[:-1], start=1) if _record(line) is None]
        if damaged:
            aside = path.with_name(f"corrupt-{path.name}")
            path.rename(aside)
            logger.warning(
                "%s: corrupt lines %s are skipped. The original file is kept as %s", path, damaged[:5], aside
            )
        # Drop the records of steps that are repeated.
        records = [
            record
            for record in filter(None, map(_record, lines))
            if record["step"] < last_step
            or (record["step"] == last_step and (is_speed or "loss" in record or not is_evaluation_due))
        ]
        replace_text(path, "".join(f"{json.dumps(record)}\n" for record in records))
        self._file = open_without_links(path, "a")

    def log(self, step: int, values: Values) -> None:
        """Append one record, unless it has no values for this file."""
        own = {name: value for name, value in values.items() if name.startswith(PREFIX) == self._is_speed}
        if self._is_speed:
            own = (
                {"time": time.time(), **{name.removeprefix(PREFIX): value for name, value in own.items()}}
                if own
                else {}
            )
        if not own:
            return
        self._file.write(json.dumps({"step": step, **own}) + "\n")
        self._file.flush()

    def show(self, step: int, pictures: Pictures) -> None:
        """Do nothing: the file holds numbers."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def log(self, step: int, values: Values) -> None:
        """Pass the values on to each."""
        for tracker in self._trackers:
            tracker.log(step, values)

    def show(self, step: int, pictures: Pictures) -> None:
        """Pass the pictures on to each."""
        for tracker in self._trackers:
            tracker.show(step, pictures)

    def close(self) -> None:
        """Close each."""
        for tracker in self._trackers:
            tracker.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the records of a metrics file. Corrupt lines are skipped, such as a last line cut off by a kill."""
    return list(filter(None, map(_record, path.read_text(encoding="utf-8", errors="replace").splitlines())))


def _record(line: str) -> dict[str, Any] | None:
    record = None
    with suppress(ValueError, RecursionError):
        record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        return None
    return {re.sub("^plain/", "raw/", name): value for name, value in record.items()}  # the former name
