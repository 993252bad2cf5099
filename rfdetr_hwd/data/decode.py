"""Decode many images of a split in few threads, within a bound on their memory."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.deep_images import DeepValues, join
from rfdetr_hwd.data.images import ImageError, read_size

NUM_PROBED = 1000
"""Images of a split that are decoded before the first epoch; all of them where there are no more."""
MAX_THREADS = 4
"""Threads that decode. Pillow does so without holding the interpreter; more of them take memory more than they help."""
MEMORY = 1 << 30
"""Bytes that the images in these threads may take together. An image that takes more than its part is decoded in a
further thread, one such image after another: each thread keeps what it once needed, so waiting would not do."""
_BYTES_PER_PIXEL = 16
"""What Pillow holds of an image while it is decoded, turned upright and converted: four copies of four bytes."""

Found = TypeVar("Found")


def probed_rows(num_images: int, seed: int) -> NDArray[np.int64]:
    """Return the images that are decoded before the first epoch: all, or `NUM_PROBED` drawn by the seed."""
    if num_images <= NUM_PROBED:
        return np.arange(num_images)
    return np.random.default_rng(seed).choice(np.arange(num_images), NUM_PROBED, replace=False)


def measure_split(data: DetectionData, seed: int) -> DeepValues:
    """Return what the probed images with more than 8 bits a channel hold; what cannot be read is skipped."""

    def look(row: int) -> DeepValues:
        try:
            return data.measure(row)
        except ImageError:
            return DeepValues()

    return join(decode_in_threads(data, look, probed_rows(len(data), seed).tolist()))


def decode_in_threads(data: DetectionData, look: Callable[[int], Found], rows: Iterable[int]) -> Iterator[Found]:
    """Yield what a function returns for images, in order.

    Args:
        data: The annotations.
        look: Decodes the image of a row; called in a thread.
        rows: Rows of the images.
    """
    pool, large = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)), ThreadPoolExecutor(1)

    def bounded(row: int) -> Found:
        is_large = _estimate_bytes(data, row) > MEMORY // MAX_THREADS
        return large.submit(look, row).result() if is_large else look(row)

    try:
        yield from pool.map(bounded, rows)
    finally:
        pool.shutdown(cancel_futures=True)  # whoever is asked to stop does not decode the rest
        large.shutdown()


def _estimate_bytes(data: DetectionData, row: int) -> int:
    """Return about what an image takes while it is decoded, as its own header says; 0: it cannot be decoded."""
    if data.shards is not None:  # whose annotated sizes are those of the headers
        return int(data.shards.members[row, 2]) + int(data.sizes[row].prod()) * _BYTES_PER_PIXEL
    path = data.path(row)
    try:
        (height, width), _ = read_size(path)
        return path.stat().st_size + height * width * _BYTES_PER_PIXEL
    except (ImageError, OSError):
        return 0
