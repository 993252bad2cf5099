"""Images that cannot be read: listed once each, and an error when they are too many."""

import contextlib
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.batch import BadImage, Failure
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.decoding_threads import decode_in_threads, probed_rows
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.files import open_without_links

MAX_FRACTION = 0.05
"""Fraction of unreadable images above which a run does not start or continue."""

logger = logging.getLogger(__name__)


class Quarantine:
    """The unreadable images of a split.

    Args:
        path: JSON lines file, one image a line; lines of an earlier start of the run are kept and not repeated. The
            lists of other ranks lie beside it, and count as well.
        num_images: Images of the split.
    """

    def __init__(self, path: Path, num_images: int) -> None:
        self.path, self.num_images = path, num_images
        self.seen: set[int] = set()

    def __call__(self, bad: BadImage) -> None:
        """List an image.

        Raises:
            DatasetError: More than `MAX_FRACTION` of the images are listed.
        """
        if bad.image_id in self.seen:
            return

        # Other ranks may have listed it
        for path in self.path.parent.glob("quarantine*.jsonl"):
            self.seen |= _read_ids(path)
        if bad.image_id in self.seen:
            return

        # List it
        self.seen.add(bad.image_id)
        try:
            with open_without_links(self.path, "a") as file:
                file.write("\n" * self._is_torn() + json.dumps(asdict(bad)) + "\n")
        except OSError as error:
            logger.warning("cannot write to %s: %s", self.path, error.strerror)
        logger.warning("replaced by another image, and listed in %s: %s", self.path, bad.reason)
        refuse_too_many(len(self.seen), self.num_images, [bad])

    def _is_torn(self) -> bool:
        """Return whether a killed process left half a line."""
        text = self.path.read_bytes() if self.path.exists() else b""
        return bool(text) and not text.endswith(b"\n")


def _read_ids(path: Path) -> set[int]:
    """Return the image ids of a list; half a line, which a killed process leaves, does not count."""
    ids = set()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            ids.add(int(json.loads(line)["image_id"]))
    return ids


def probe_images(data: DetectionData, seed: int) -> list[BadImage]:
    """Decode images of a split, those of `probed_rows`, and return what cannot be used.

    Raises:
        DatasetError: More than `MAX_FRACTION` of them cannot be used.
    """
    rows = probed_rows(len(data), seed)
    dataset = DetectionDataset(data, on_bad_image="quarantine")

    def probe(row: int) -> Iterable[BadImage]:
        sample = dataset[SampleKey(row, 0, 32)]
        if isinstance(sample, Failure):
            raise DatasetError(sample.reason)
        return sample.bad

    bad = [image for found in decode_in_threads(data, probe, rows.tolist()) for image in found]
    refuse_too_many(len(bad), len(rows), bad)
    return bad


def refuse_too_many(num_bad: int, num_images: int, examples: list[BadImage]) -> None:
    """Raise an error if the fraction of unreadable images is too large.

    Raises:
        DatasetError: More than `MAX_FRACTION`.
    """
    if num_bad > MAX_FRACTION * num_images:
        shown = "; ".join(bad.reason for bad in examples[:3])
        raise DatasetError(
            f"{num_bad} of {num_images} images cannot be read, more than {MAX_FRACTION:.0%}: {shown}. "
            "`rfdetr-hwd data check ROOT` lists all of them"
        )
