"""Draw the detections: a picture of each image, a video of each video, and an overview of the first ones."""

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import supervision as sv

from rfdetr_hwd.prediction.frame import Frame
from rfdetr_hwd.prediction.video_writer import VideoWriter
from rfdetr_hwd.report.legend import write_legend
from rfdetr_hwd.report.lettering import drawable_names
from rfdetr_hwd.report.pictures import draw_cell, draw_detections, tile_cells

_COMPRESSION = 1
"""Of the PNG files: photographs get 15 % larger than with Pillow's default level, in a fifth of the time."""
_OVERVIEW, _COLUMNS, _CELL_SIZE = 12, 4, 320  # images of the overview, of its rows, pixels of each


class PictureWriter:
    """Writes a picture of each image, and an .mp4 of each video. Only a few thumbnails are kept in memory.

    Args:
        out: Directory of the pictures.
        class_names: Class names in label order.
    """

    def __init__(self, out: Path, class_names: Sequence[str]) -> None:
        self.out, self.class_names = out, class_names
        self._names = drawable_names(class_names)
        self._cells: list[PIL.Image.Image] = []
        self._video: VideoWriter | None = None

    def add(self, frame: Frame, detections: sv.Detections) -> None:
        """Write the picture of an image or frame, and keep some thumbnails: of a video, that of the first frame."""
        picture = picture_path(self.out, frame)
        if self._video is not None and self._video.path != picture:
            self._end_video()
        if len(self._cells) < _OVERVIEW and (frame.moment is None or frame.moment.index == 0):
            self._cells.append(draw_cell(frame.image, detections, self._names, _CELL_SIZE))
        drawn = draw_detections(frame.image, detections, self._names)
        if frame.moment is None:
            picture.parent.mkdir(parents=True, exist_ok=True)
            drawn.save(picture, compress_level=_COMPRESSION)
            return
        if self._video is None:
            self._video = VideoWriter(picture, drawn.size, frame.moment.tick, frame.moment.rate)
        self._video.write(drawn, frame.moment)

    def _end_video(self) -> None:
        if self._video is not None:
            video, self._video = self._video, None
            video.close()

    def close(self) -> dict[str, Path]:
        """End the video, write `overview.png` of the first images, if there are any, and the legend."""
        self._end_video()
        if not self._cells:
            return {}
        tile_cells(self._cells, _COLUMNS, _CELL_SIZE).save(self.out / "overview.png")
        write_legend(self.out, self.class_names)
        return {"pictures": self.out, "overview": self.out / "overview.png"}


def picture_path(out: Path, frame: Frame) -> Path:
    """Return the path of the picture of an image, its place with `.png` appended; of a frame, that of the video."""
    place = out / frame.source.place
    return place if frame.moment is not None else place.with_name(f"{place.name}.png")
