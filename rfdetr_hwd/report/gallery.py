"""Pictures of the detections in images, a JSON list of them, and an overview of the first ones."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image
import supervision as sv

from rfdetr_hwd.console import say
from rfdetr_hwd.report.lettering import drawable_names
from rfdetr_hwd.report.pictures import draw_cell, draw_detections, tile_cells

_COMPRESSION = 1
"""Of the PNG files: photographs get 15 % larger than with Pillow's default level, in a fifth of the time."""
_OVERVIEW, _COLUMNS, _CELL_SIZE = 12, 4, 320  # images of the overview, of its rows, pixels of each


@dataclass
class Gallery:
    """A directory of pictures that grows image by image. Only a few thumbnails are kept in memory.

    Attributes:
        out: The directory.
        class_names: Class names in label order.
        images: Images that were added.
        detections: Detections in them.
        failed: Images that could not be decoded or drawn.
    """

    out: Path
    class_names: Sequence[str]
    images: int = 0
    detections: int = 0
    failed: int = 0
    _cells: list[PIL.Image.Image] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._names = drawable_names(self.class_names)

    def skip(self, reason: Exception) -> None:
        """Report why an image is skipped, and count it."""
        say(f"skipped: {reason}")
        self.failed += 1

    def add(self, image: PIL.Image.Image, detections: sv.Detections, path: Path, source: Path) -> dict[str, Any]:
        """Write the picture of an image, keep a thumbnail if it is one of the first, and return its entry of the list.

        Args:
            image: RGB image.
            detections: With `data["class_name"]`, as `Detector.predict` returns them.
            path: Its file.
            source: The file itself, or the directory above it, whose structure the pictures keep.
        """
        picture = self.out / _picture_name(path, source)
        self.images += 1
        self.detections += len(detections)
        if len(self._cells) < _OVERVIEW:
            self._cells.append(draw_cell(image, detections, self._names, _CELL_SIZE))
        try:
            picture.parent.mkdir(parents=True, exist_ok=True)
            draw_detections(image, detections, self._names).save(picture, compress_level=_COMPRESSION)
        except OSError as error:
            say(f"not drawn: {path}: {error.strerror or error}")
            self.failed += 1
        return {"image": str(path), "picture": str(picture), "detections": _as_json(detections)}

    def write_overview(self) -> None:
        """Write `overview.png` of the first images, if there are any."""
        if self._cells:
            tile_cells(self._cells, _COLUMNS, _CELL_SIZE).save(self.out / "overview.png")


@contextmanager
def json_list(path: Path) -> Iterator[Callable[[object], None]]:
    """Write a list of JSON values one by one. If the block raises, the file holds the values written before."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        separator = "[\n"

        def write(value: object) -> None:
            nonlocal separator
            file.write(separator + json.dumps(value))
            separator = ",\n"

        try:
            yield write
        finally:
            file.write("\n]\n" if separator != "[\n" else "[]\n")
            file.flush()
            partial.replace(path)


def _picture_name(path: Path, source: Path) -> Path:
    """Return a unique path: that of the image below the source, with `.png` appended."""
    relative = path.relative_to(source) if source.is_dir() else Path(path.name)
    return relative.with_name(f"{relative.name}.png")


def _as_json(detections: sv.Detections) -> list[dict[str, Any]]:
    rows = zip(detections.xyxy.tolist(), detections.confidence.tolist(), detections["class_name"], strict=True)
    return [{"class": str(name), "score": score, "box_xyxy": box} for box, score, name in rows]
