"""Read videos, cameras and streams through PyAV, one frame after the other."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import PIL.Image

from rfdetr_hwd.errors import UserError
from rfdetr_hwd.prediction.frame import Frame, Moment
from rfdetr_hwd.prediction.sources import Source

_TIMEOUT = (20.0, 20.0)
"""Seconds to wait for a server that is opened, and that is read."""
_FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mjpeg"
"""The demuxers that may see a file: playlists, which name other files, are not among them."""
_PROTOCOLS = "http,https,rtsp,rtsps,rtmp,rtmps,rtp,srtp,udp,tcp,tls,crypto"
"""What a stream may be fetched with: a playlist of a server must not name files of this machine."""
_USUAL_RATE = Fraction(25)
"""Frames per second of a stream that does not know."""
_TICKS_PER_FRAME = 1000
"""Precision of the times of frames."""
_TELLING = ("mov", "matroska", "avi")
"""Formats whose header has the duration, which is estimated for others."""
_CUT = 0.5
"""Seconds at the end whose absence tells that a file was cut off."""
_TURNS = {
    90: PIL.Image.Transpose.ROTATE_90,
    -90: PIL.Image.Transpose.ROTATE_270,
    180: PIL.Image.Transpose.ROTATE_180,
    -180: PIL.Image.Transpose.ROTATE_180,
}
"""By the angle of the display matrix, counterclockwise."""


class VideoError(UserError):
    """A video that cannot be read, or not to its end."""


def import_av() -> Any:
    """Return PyAV.

    Raises:
        VideoError: It is not installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError:
        raise VideoError("videos are read and written with PyAV: pip install 'rfdetr-hwd[video]'") from None


def read_video(source: Source) -> Iterator[Frame]:
    """Yield the frames of a video in their order, upright. One is in memory at a time.

    Raises:
        VideoError: The video cannot be opened or decoded, or ends too early. The frames before were yielded.
    """
    index, last = 0, -1
    first: Fraction | None = None
    with _opened(import_av(), source) as container:
        stream = container.streams.video[0]
        rate = Fraction(stream.average_rate or stream.guessed_rate or _USUAL_RATE).limit_denominator(1001)
        precision, tick = stream.time_base or 1 / rate, 1 / (rate * _TICKS_PER_FRAME)
        progress = _Progress()
        for decoded in _decode(container, stream, progress):
            time = index / rate if decoded.pts is None else decoded.pts * precision
            first = time if first is None else first
            # Frames at even times stay so where the file rounds them, and times ascend, whatever the stream says
            is_even = abs(time - first - index / rate) <= precision
            last = max(index * _TICKS_PER_FRAME if is_even else round((time - first) / tick), last + 1)
            yield Frame(source, _upright(decoded), Moment(index, last, tick, rate))
            index += 1
        if progress.problem:
            raise VideoError(f"{source.name} breaks after {index} frames: {progress.problem}")
        if _is_cut(container, progress.seconds):
            raise VideoError(f"{source.name} ends after {index} frames: the file is cut off or corrupt")
    if not index:
        raise VideoError(f"{source.name} has no frame")


@dataclass
class _Progress:
    """How far a file was read.

    Attributes:
        seconds: The furthest time of any stream, also of sound, that was there.
        problem: Why reading ended before the end.
    """

    seconds: float = 0.0
    problem: str = ""


def _decode(container: Any, stream: Any, progress: _Progress) -> Iterator[Any]:
    """Yield the decoded frames of a stream, also those that the decoder still has when it breaks."""
    failure = import_av().FFmpegError
    stream.thread_type = "AUTO"
    try:
        for packet in container.demux():
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * packet.time_base
                progress.seconds = max(progress.seconds, float(end))
            if packet.stream.index == stream.index:
                yield from packet.decode()
    except failure as error:
        progress.problem = error.strerror
        with suppress(failure):
            yield from stream.codec_context.decode(None)


def count_frames(source: Source) -> int | None:
    """Return how many frames a video file says it has; `None` if it does not say, or cannot be opened."""
    if source.is_url or source.is_camera:
        return None
    try:
        with _opened(import_av(), source) as container:
            return int(container.streams.video[0].frames) or None
    except VideoError:
        return None


@contextmanager
def _opened(av: Any, source: Source) -> Iterator[Any]:
    """Open a video that has a stream of pictures, and a decoder for it.

    Raises:
        VideoError: It cannot be opened.
    """
    file, options = _address(source)
    try:
        container = av.open(file, timeout=_TIMEOUT, **options)
    except (av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"cannot open {source.name}: {reason}") from None
    with container:
        if not container.streams.video:
            raise VideoError(f"{source.name} has no video stream")
        if container.streams.video[0].codec_context is None:
            raise VideoError(f"cannot decode {source.name}: this PyAV has no decoder for its codec")
        yield container


def _address(source: Source) -> tuple[str, dict[str, Any]]:
    """Return what PyAV opens, and how."""
    if source.is_camera and sys.platform == "darwin":
        return source.address, {"format": "avfoundation"}
    if source.is_camera:
        return f"/dev/video{source.address}", {"format": "v4l2"}
    if source.is_url:
        return source.address, {"options": {"protocol_whitelist": _PROTOCOLS}}
    # A path with a colon would be taken for a protocol
    path = f"file:{Path(source.address).absolute()}"
    return path, {"options": {"protocol_whitelist": "file", "format_whitelist": _FORMATS}}


def _upright(decoded: Any) -> PIL.Image.Image:
    image: PIL.Image.Image = decoded.to_image()
    turn = _TURNS.get(round(decoded.rotation))
    return image if turn is None else image.transpose(turn)


def _is_cut(container: Any, seconds: float) -> bool:
    """Return whether a file was read to an earlier time than its header says."""
    if container.duration is None or not container.format.name.startswith(_TELLING):
        return False
    end = float(container.duration + (container.start_time or 0)) / 1e6
    return end - seconds > _CUT
