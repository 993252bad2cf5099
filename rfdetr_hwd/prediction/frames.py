"""The images of the sources, decoded a few at a time: stills, and the frames of videos."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import PIL.Image

from rfdetr_hwd.curation.fetch import fetch
from rfdetr_hwd.data.images import MAX_FILE_BYTES, ImageError, ReadOptions, read_image
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.prediction.frame import Frame
from rfdetr_hwd.prediction.sources import Source
from rfdetr_hwd.prediction.video import count_frames, read_video

_BATCH = 8
_BATCH_PIXELS = 1 << 24
"""Limits of images and pixels that are decoded at once, which bound the memory."""


def read_frames(
    sources: Iterable[Source], options: ReadOptions, skip: Callable[[Source, UserError], None]
) -> Iterator[Frame]:
    """Yield the images of the sources and the frames of videos, in order, one at a time.

    Args:
        sources: Images and videos.
        options: How image files are read.
        skip: Receives each source, with the error, that cannot be read, or not to its end.
    """
    for source in sources:
        try:
            if source.kind == "video":
                yield from read_video(source)
            else:
                yield Frame(source, _read_still(source, options))
        except UserError as error:
            skip(source, error)


def count_all(sources: Iterable[Source]) -> int | None:
    """Return how many images and frames the sources have; `None` if a video does not say."""
    counts = [count_frames(source) if source.kind == "video" else 1 for source in sources]
    return None if None in counts else sum(count or 0 for count in counts)


def in_batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Yield frames a few at a time, and large ones one at a time."""
    batch: list[Frame] = []
    pixels = 0
    for frame in frames:
        batch.append(frame)
        pixels += frame.image.width * frame.image.height
        del frame  # or the last one of this batch would live as long as the next batch
        if len(batch) == _BATCH or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _read_still(source: Source, options: ReadOptions) -> PIL.Image.Image:
    """Return an image.

    Raises:
        ImageError: It cannot be decoded.
        DatasetError: It cannot be downloaded.
    """
    if not source.is_url:
        return read_image(Path(source.address), options=options)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "image"
        fetch(source.address, file, max_bytes=MAX_FILE_BYTES)
        try:
            return read_image(file, options=options)
        except ImageError as error:
            raise ImageError(str(error).replace(str(file), source.name)) from None
