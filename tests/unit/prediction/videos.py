"""Videos whose frames hold their number in their pixels."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_BITS, _SIDE = 8, 16  # of a number, pixels of each


def numbered(number: int, height: int = 48) -> NDArray[np.uint8]:
    """Return an RGB frame of 128 pixels width with a number as black and white squares."""
    frame = np.full((height, _BITS * _SIDE, 3), 60, np.uint8)
    for bit in range(_BITS):
        frame[:_SIDE, bit * _SIDE : (bit + 1) * _SIDE] = 255 * (number >> bit & 1)
    return frame


def read_number(frame: NDArray[np.uint8]) -> int:
    """Return the number of a frame, also of one that was compressed."""
    squares = frame[4 : _SIDE - 4, : _BITS * _SIDE].reshape(_SIDE - 8, _BITS, _SIDE, 3)[:, :, 4:-4].mean(axis=(0, 2, 3))
    assert (np.abs(squares - 127) > 60).all(), "the squares are neither black nor white"
    return sum(int(square > 127) << bit for bit, square in enumerate(squares))


def write_video(
    path: Path,
    times: Sequence[int],
    tick: Fraction = Fraction(1, 30),
    codec: str = "libx264",
    height: int = 48,
    **options: str,
) -> Path:
    """Write a video of a frame at each time, in ticks, numbered from 0. Options are those of the container."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=1 / (tick * (times[1] - times[0])))
        stream.width, stream.height, stream.pix_fmt = (
            _BITS * _SIDE,
            height,
            "yuvj420p" if codec == "mjpeg" else "yuv420p",
        )
        stream.codec_context.time_base = tick
        stream.codec_context.gop_size = 10
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered(number, height), format="rgb24")
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_times(path: Path) -> tuple[list[int], list[float], Fraction | None, int]:
    """Return the numbers and seconds of a video's frames, its frames per second, and how many it says it has."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (read_number(frame.to_ndarray(format="rgb24")), float(frame.time)) for frame in container.decode(stream)
        ]
        return [n for n, _ in frames], [time for _, time in frames], stream.average_rate, stream.frames
