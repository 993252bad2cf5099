"""The series of a run in each tracker: its ids are kept in the run directory, so that a resumed run continues them."""

import json
import logging
import uuid
from pathlib import Path
from typing import Any, NamedTuple

from rfdetr_hwd.files import UntrustedFileError, read_json_object, replace_text

FILE = "trackers.json"
PROJECT = "rfdetr-hwd"
"""Project, or experiment, that the runs are entered in."""

logger = logging.getLogger(__name__)


class Series(NamedTuple):
    """What a tracker is told about a run.

    Attributes:
        folder: Run directory.
        last_step: Completed steps. A resumed run repeats later ones.
        config: Configuration as plain nested values.
    """

    folder: Path
    last_step: int
    config: dict[str, Any]

    def known_id(self, tracker: str) -> str | None:
        """Return the id of the run in a tracker; `None`: it has none yet."""
        found = self._ids().get(tracker)
        return found if isinstance(found, str) else None

    def keep_id(self, tracker: str, run_id: str) -> None:
        """Keep the id of the run in a tracker for its next start.

        Raises:
            OSError: It cannot be written.
        """
        replace_text(self.folder / FILE, json.dumps({**self._ids(), tracker: run_id}, indent=2))

    def settled_id(self, tracker: str) -> str:
        """Return the id of the run in a tracker that takes any: the kept one, or a new one, which is then kept."""
        run_id = self.known_id(tracker)
        if run_id is None:
            run_id = uuid.uuid4().hex[:12]
            self.keep_id(tracker, run_id)
        return run_id

    def _ids(self) -> dict[str, Any]:
        path = self.folder / FILE
        try:
            return read_json_object(path)
        except FileNotFoundError:
            return {}
        except UntrustedFileError as error:
            logger.warning("%s cannot be read, and trackers start new series: %s", path, error)
            return {}
