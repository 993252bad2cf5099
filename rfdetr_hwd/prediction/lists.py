"""Detections as a JSON list with an entry for each image, and as a CSV table with a row for each detection."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import supervision as sv

from rfdetr_hwd.prediction.frame import Frame
from rfdetr_hwd.prediction.growing_file import GrowingFile
from rfdetr_hwd.prediction.pictures import picture_path
from rfdetr_hwd.prediction.tracking import UNTRACKED

_COLUMNS = ("image", "frame", "seconds", "class", "score", "x1", "y1", "x2", "y2", "track")


class JsonWriter:
    """Writes `detections.json`.

    Args:
        out: Its directory.
        with_pictures: Whether pictures are written, which the entries then name.
    """

    def __init__(self, out: Path, with_pictures: bool) -> None:
        self._out, self._with_pictures = out, with_pictures
        self._file = GrowingFile(out / "detections.json", b"[", b"\n]\n")
        self._separator = "\n"

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write the entry of an image, or of a frame of a video."""
        entry: dict[str, Any] = {"image": frame.source.name}
        if frame.moment is not None:
            entry = {"video": frame.source.name, "frame": frame.moment.index, "seconds": round(frame.moment.seconds, 6)}
        if self._with_pictures:
            entry["picture"] = str(picture_path(self._out, frame))
        rows = zip(detections["class_name"], detections.confidence.tolist(), detections.xyxy.tolist(), strict=True)
        entry["detections"] = [{"class": str(name), "score": score, "box_xyxy": box} for name, score, box in rows]
        if detections.tracker_id is not None:
            for found, track in zip(entry["detections"], _tracks(detections), strict=True):
                found["track"] = track
        self._file.append(f"{self._separator}{json.dumps(entry)}".encode())
        self._separator = ",\n"

    def close(self) -> dict[str, Path]:
        """Put the file in place."""
        self._file.close()
        return {"detections": self._file.path}


class CsvWriter:
    """Writes `detections.csv`. Boxes are in pixels of the image."""

    def __init__(self, out: Path) -> None:
        self._file = GrowingFile(out / "detections.csv", _to_csv([_COLUMNS]))

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write a row for each detection of an image."""
        columns = (
            detections["class_name"],
            detections.confidence.tolist(),
            detections.xyxy.tolist(),
            _tracks(detections),
        )
        when = ("", "") if frame.moment is None else (frame.moment.index, round(frame.moment.seconds, 6))
        rows = [
            (frame.source.name, *when, name, score, *box, track)
            for name, score, box, track in zip(*columns, strict=True)
        ]
        self._file.append(_to_csv(rows))

    def close(self) -> dict[str, Path]:
        """Put the file in place."""
        self._file.close()
        return {"table": self._file.path}


def _tracks(detections: sv.Detections) -> list[int | None]:
    """Return the identity of each detection's track; `None` without one."""
    if detections.tracker_id is None:
        return [None] * len(detections)
    return [track if track != UNTRACKED else None for track in detections.tracker_id.tolist()]


def _to_csv(rows: list[tuple[Any, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")
