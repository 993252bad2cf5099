"""Decode many images of a split in few threads, within a bound on their memory."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.deep_images import DeepValues, join_values
from rfdetr_hwd.data.images import ImageError, read_size

NUM_PROBED = 1000
"""Largest number of images of a split that are decoded before the first epoch."""
MAX_THREADS = 4
"""Threads that decode. Pillow releases the interpreter lock. More threads cost more memory than they gain time."""
MEMORY = 1 << 30
"""Memory limit in bytes for the images in these threads. Images above the limit per thread are decoded one by one in a
further thread, because a thread does not return its peak memory."""
_BYTES_PER_PIXEL = 16
"""Memory of Pillow per pixel while an image is decoded, rotated and converted: four copies of four bytes."""

Found = TypeVar("Found")


def probed_rows(num_images: int, seed: int) -> NDArray[np.int64]:
    """Return the images that are decoded before the first epoch: all, or `NUM_PROBED` drawn by the seed."""
    if num_images <= NUM_PROBED:
        return np.arange(num_images)
    return np.random.default_rng(seed).choice(np.arange(num_images), NUM_PROBED, replace=False)


def measure_split(data: DetectionData, seed: int) -> DeepValues:
    """Return the value range of the probed images with more than 8 bits per channel. Unreadable ones are skipped."""

    def look(row: int) -> DeepValues:
        try:
            return data.measure(row)
        except ImageError:
            return DeepValues()

    return join_values(decode_in_threads(data, look, probed_rows(len(data), seed).tolist()))


def decode_in_threads(data: DetectionData, look: Callable[[int], Found], rows: Iterable[int]) -> Iterator[Found]:
    """Yield the results of a function for images, in order.

    Args:
        data: The annotations.
        look: Decodes the image of a row. It is called in a thread.
        rows: Rows of the images.
    """
    pool, large = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)), ThreadPoolExecutor(1)

    def bounded(row: int) -> Found:
        is_large = _estimate_bytes(data, row) > MEMORY // MAX_THREADS
        return large.submit(look, row).result() if is_large else look(row)

    try:
        yield from pool.map(bounded, rows)
    finally:
        pool.shutdown(cancel_futures=True)  # after a request to stop, the rest is not decoded
        large.shutdown()


def _estimate_bytes(data: DetectionData, row: int) -> int:
    """Return the estimated memory for decoding an image, from its header, or 0 if it cannot be decoded."""
    if data.shards is not None:  # whose annotated sizes are those of the headers
        return int(data.shards.members[row, 2]) + int(data.sizes[row].prod()) * _BYTES_PER_PIXEL
    path = data.path(row)
    try:
        (height, width), _ = read_size(path)
        return path.stat().st_size + height * width * _BYTES_PER_PIXEL
    except (ImageError, OSError):
        return 0
