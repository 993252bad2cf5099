"""Write a video of as many frames as were read, at the same times."""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from rfdetr_hwd.prediction.frame import Moment
from rfdetr_hwd.prediction.video import VideoError, import_av

_CODECS = {"libx264": {"crf": "20", "preset": "veryfast", "bf": "0"}, "libopenh264": {}, "mpeg4": {"qscale": "3"}}
"""Encoders of a player's usual formats, the best first, and their options. Without B-frames the first time is 0."""
_FRAGMENTS = {"movflags": "hybrid_fragmented"}
"""A file that can be played up to its last key frame if it is never finished, and is a plain MP4 once it is."""


class VideoWriter:
    """Writes an .mp4, beside its place; `close` puts it in place.

    Args:
        path: The file.
        size: (width, height) of the frames in pixels.
        tick: Unit of their times in seconds.
        rate: Frames per second, on average.

    Raises:
        OSError: It cannot be written.
        VideoError: PyAV is missing, or has no encoder.
    """

    def __init__(self, path: Path, size: tuple[int, int], tick: Fraction, rate: Fraction) -> None:
        self._av = import_av()
        self.path, self._partial = path, path.with_name(f".{path.name}.partial")
        self._tick, self._size = tick, size
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = _find_encoder(self._av)
        self._container = self._av.open(f"file:{self._partial}", "w", format="mp4", options=_FRAGMENTS)
        self._stream = self._container.add_stream(codec, rate=rate, options=_CODECS[codec])
        self._stream.pix_fmt = "yuv420p"
        # Half as many colours in both directions: an odd size gets one more row or column
        self._stream.width, self._stream.height = (length + length % 2 for length in size)
        self._stream.codec_context.time_base = tick
        self._stream.codec_context.gop_size = max(1, round(rate))

    def write(self, image: PIL.Image.Image, moment: Moment) -> None:
        """Write the next frame. A frame of another size, as streams may have, is resized.

        Raises:
            OSError: It cannot be written.
            VideoError: It cannot be encoded.
        """
        pixels = np.asarray(image if image.size == self._size else image.resize(self._size))
        height, width = pixels.shape[:2]
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = moment.ticks, self._tick
        with self._explained():
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file and put it in place, also if its end cannot be written.

        Raises:
            OSError: The end cannot be written.
            VideoError: The last frames cannot be encoded.
        """
        try:
            with self._explained(), contextlib.closing(self._container):
                self._container.mux(self._stream.encode(None))
        finally:
            self._partial.replace(self.path)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except self._av.FFmpegError as error:
            raise VideoError(f"cannot write the video {self.path}: {error.strerror}") from None


def _find_encoder(av: Any) -> str:
    """Return the name of an encoder.

    Raises:
        VideoError: PyAV was built without one.
    """
    for name in _CODECS:
        if name in av.codecs_available:
            with contextlib.suppress(av.FFmpegError):
                av.codec.Codec(name, "w")
                return name
    raise VideoError(f"this PyAV has no encoder of {', '.join(_CODECS)}: leave pictures out with --format json")
