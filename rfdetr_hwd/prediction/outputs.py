"""Everything that is written about the detections of a stream of images, and the account of what failed."""

import errno
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Protocol, Self

import supervision as sv

from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.prediction.coco_files import CocoWriter, ResultsWriter
from rfdetr_hwd.prediction.crops import CropWriter
from rfdetr_hwd.prediction.frame import Frame
from rfdetr_hwd.prediction.lists import CsvWriter, JsonWriter
from rfdetr_hwd.prediction.pictures import PictureWriter
from rfdetr_hwd.prediction.sources import Source
from rfdetr_hwd.prediction.yolo_labels import YoloWriter

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""No further file could be written either."""


class Writer(Protocol):
    """Writes detections in one format."""

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write the detections of an image."""

    def close(self) -> dict[str, Path]:
        """Finish the files, and return them by what they are called."""


FORMATS: Mapping[str, Callable[[Path, Sequence[str], Sequence[str], DetectionData | None], Writer]] = {
    "pictures": lambda out, names, formats, data: PictureWriter(out, names),
    "json": lambda out, names, formats, data: JsonWriter(out, "pictures" in formats),
    "coco": lambda out, names, formats, data: ResultsWriter(out, names, data) if data else CocoWriter(out, names),
    "yolo": lambda out, names, formats, data: YoloWriter(out, names),
    "csv": lambda out, names, formats, data: CsvWriter(out),
    "crops": lambda out, names, formats, data: CropWriter(out, names),
}
"""The formats, and what writes each: from the directory, the class names, all formats, and the dataset of the ids."""
DEFAULT_FORMATS = ("pictures", "json")


class Outputs(AbstractContextManager["Outputs"]):
    """Writes the detections of a stream of images. Files that are lists hold what was done, whatever ends the block.

    Args:
        out: Directory of all files. It is made.
        class_names: Class names in label order.
        formats: Some of `FORMATS`.
        data: Dataset whose ids the COCO results have, if any.

    Attributes:
        frames: Images that were added.
        detections: Detections in them.
        failed: Names of the sources that could not be read or written, or not as a whole.
        files: After the block, the files by what they are called.
    """

    def __init__(
        self, out: Path, class_names: Sequence[str], formats: Sequence[str], data: DetectionData | None = None
    ) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._writers = [FORMATS[name](out, class_names, formats, data) for name in formats]
        self.frames = self.detections = 0
        self.failed: set[str] = set()
        self.files: dict[str, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:  # closes each, whatever another one raises
            for writer in reversed(self._writers):
                stack.callback(self._close, writer)

    def skip(self, source: Source, reason: Exception) -> None:
        """Report why a source, or the rest of it, is skipped."""
        say(f"skipped: {reason}")
        self.failed.add(source.name)

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write the detections of an image. A file that cannot be written is reported, once a source.

        Raises:
            OSError: Nothing can be written any more, as on a full disk.
        """
        reasons = []
        for writer in self._writers:
            try:
                writer.add(frame, detections)
            except OSError as error:
                if error.errno in _FULL:
                    raise
                reasons.append(error.strerror or str(error))
        if reasons and frame.source.name not in self.failed:
            say(f"not written: {frame.name}: {reasons[0]}")
            self.failed.add(frame.source.name)
        self.frames += 1
        self.detections += len(detections)

    def _close(self, writer: Writer) -> None:
        self.files |= writer.close()


def choose_formats(words: Sequence[str]) -> list[str]:
    """Return the formats that `--format` names, each once; by default pictures and JSON.

    Args:
        words: Names, or lists of names with commas in between.

    Raises:
        ConfigError: A name is unknown.
    """
    names = [name.strip() for word in words for name in word.split(",")] or list(DEFAULT_FORMATS)
    for name in names:
        if name not in FORMATS:
            raise ConfigError(f"--format {name}: choose among {', '.join(FORMATS)}")
    return list(dict.fromkeys(names))
