"""Write pictures of the detections, and an overview of the first ones."""

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import supervision as sv

from rfdetr_hwd.prediction.frames import Frame
from rfdetr_hwd.report.legend import write_legend
from rfdetr_hwd.report.lettering import drawable_names
from rfdetr_hwd.report.pictures import draw_cell, draw_detections, tile_cells

_COMPRESSION = 1
"""Of the PNG files: photographs get 15 % larger than with Pillow's default level, in a fifth of the time."""
_OVERVIEW, _COLUMNS, _CELL_SIZE = 12, 4, 320  # images of the overview, of its rows, pixels of each


class PictureWriter:
    """Writes a picture of each image. Only a few thumbnails are kept in memory.

    Args:
        out: Directory of the pictures.
        class_names: Class names in label order.
    """

    def __init__(self, out: Path, class_names: Sequence[str]) -> None:
        self.out, self.class_names = out, class_names
        self._names = drawable_names(class_names)
        self._cells: list[PIL.Image.Image] = []

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write the picture of an image, and keep a thumbnail if it is one of the first."""
        if len(self._cells) < _OVERVIEW:
            self._cells.append(draw_cell(frame.image, detections, self._names, _CELL_SIZE))
        picture = picture_path(self.out, frame)
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_detections(frame.image, detections, self._names).save(picture, compress_level=_COMPRESSION)

    def close(self) -> dict[str, Path]:
        """Write `overview.png` of the first images, if there are any, and the legend."""
        if not self._cells:
            return {}
        tile_cells(self._cells, _COLUMNS, _CELL_SIZE).save(self.out / "overview.png")
        write_legend(self.out, self.class_names)
        return {"pictures": self.out, "overview": self.out / "overview.png"}


def picture_path(out: Path, frame: Frame) -> Path:
    """Return the path of the picture of an image: its place below `out`, with `.png` appended."""
    place = out / frame.source.place
    return place.with_name(f"{place.name}.png")
