"""Find images that show the same: a 64-bit perceptual hash, and groups of hashes that differ in few bits.

The hash is Krawetz's difference hash ("Kind of Like That", The Hacker Factor Blog, 2013): the image is shrunk to 9x8
grey values, and each of the 64 bits says whether a value is larger than its left neighbour. It hardly moves under
another size, compression or brightness: re-saved images of BCCD (half the side, JPEG quality 10 to 30, brighter) stay
within 7 bits, unrelated ones differ in 31 on average.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.decoding_threads import decode_in_threads
from rfdetr_hwd.data.images import ImageError, read_image

MAX_DISTANCE = 6
"""Bits in which two hashes of the same picture may differ; 0 to `_LARGEST_DISTANCE` can be asked for."""

_LARGEST_DISTANCE = 11
_MIN_CONTRAST = 8  # grey values of 255 between the darkest and the brightest of the 9x8
_NUM_BANDS, _BAND_BITS = 4, 16
_PAIRS_AT_ONCE = 1 << 19
_BIT_ORDER = np.random.default_rng(0).permutation(64)
"""Neighbouring bits are alike (a sky sets whole rows), so each band takes bits from everywhere, or few bands would
hold most images."""


def hash_image(image: PIL.Image.Image) -> np.uint64:
    """Return the difference hash of an image.

    An image with next to no contrast has no differences, only noise: black, white and every other blank image would
    share a hash, and be taken for each other. It gets a hash of the colours of its thumbnail instead (blake2b): blank
    images of the very same colours are still found, others lie some 32 bits apart. Among images that dark or flat
    near-duplicates are therefore not found unless they shrink to the same.

    Args:
        image: Of any size and mode; upright, if its EXIF orientation is to count.
    """
    resampling = PIL.Image.Resampling.LANCZOS
    grey = np.asarray(image.convert("L").resize((9, 8), resampling), dtype=np.int16)  # (8, 9)
    if np.ptp(grey) < _MIN_CONTRAST:
        colours = np.asarray(image.convert("RGB").resize((9, 8), resampling))
        return np.uint64(int.from_bytes(hashlib.blake2b(colours.tobytes(), digest_size=8).digest(), "big"))
    bits = np.packbits(grey[:, 1:] > grey[:, :-1])  # (8,) bytes
    return np.uint64(int.from_bytes(bits.tobytes(), "big"))


class Hashes(NamedTuple):
    """The hashes of the images of a split.

    Attributes:
        values: Shape (N,) uint64.
        unreadable: Why an image cannot be decoded, by its row; its hash is 0 and means nothing.
    """

    values: NDArray[np.uint64]
    unreadable: dict[int, str]

    def groups(self, max_distance: int = MAX_DISTANCE) -> list[list[int]]:
        """Return the rows of near-duplicates, as `near_duplicates`; images that cannot be decoded are in no group."""
        rows = np.array([row for row in range(len(self.values)) if row not in self.unreadable], dtype=np.intp)
        return [rows[group].tolist() for group in near_duplicates(self.values[rows], max_distance)]


def hash_images(data: DetectionData, watch: Callable[[Iterator[Any]], Iterator[Any]] = iter) -> Hashes:
    """Return the hashes of the images of a split. Each is decoded once, in threads.

    Args:
        data: The split.
        watch: Given what is done image by image, returns it, and may show progress.
    """
    values = np.zeros(len(data), dtype=np.uint64)
    unreadable: dict[int, str] = {}
    hashes = decode_in_threads(data, lambda row: _hash(data, row), range(len(data)))
    for row, (value, reason) in enumerate(watch(hashes)):
        values[row] = value
        if reason:
            unreadable[row] = reason
    return Hashes(values, unreadable)


def _hash(data: DetectionData, row: int) -> tuple[np.uint64, str]:
    path = data.path(row)
    try:
        return hash_image(read_image(path, io.BytesIO(data.read_bytes(row)), data.own_options, data.size(row))), ""
    except ImageError as error:
        return np.uint64(0), str(error).removeprefix(f"cannot decode {path}: ")
    except OSError as error:
        return np.uint64(0), error.strerror or str(error)


def near_duplicates(hashes: NDArray[np.uint64], max_distance: int = MAX_DISTANCE) -> list[list[int]]:
    """Group hashes that differ in at most `max_distance` bits, directly or through others of their group.

    Two hashes that differ in at most d of 64 bits differ in at most d // 4 bits of one of four 16-bit bands
    (pigeonhole), so that only hashes that nearly share a band are compared. Pairs are made and joined in pieces: memory
    does not grow with their number. At worst, when most hashes share their bands, all pairs are compared.

    Args:
        hashes: Shape (N,).
        max_distance: Bits, 0 to 11.

    Returns:
        Groups of at least two indices, ascending, ordered by their first.

    Raises:
        ValueError: `max_distance` is out of range.
    """
    if not 0 <= max_distance <= _LARGEST_DISTANCE:
        raise ValueError(f"max_distance must be 0 to {_LARGEST_DISTANCE}, not {max_distance}")
    unique, inverse = np.unique(np.asarray(hashes, dtype=np.uint64), return_inverse=True)
    groups = np.arange(len(unique))
    for left, right in _candidates(unique, max_distance):
        apart = groups[left] != groups[right]
        left, right = left[apart], right[apart]
        near = np.bitwise_count(unique[left] ^ unique[right]) <= max_distance
        if near.any():
            groups = _join(groups, left[near], right[near])
            if not groups.any():
                break  # all are one group
    return _members(groups[inverse])


def _candidates(hashes: NDArray[np.uint64], max_distance: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield pairs of indices that may be near, at most `_PAIRS_AT_ONCE` and a row at a time; some come twice."""
    radius = max_distance // _NUM_BANDS
    flips = [sum(1 << bit for bit in bits) for size in range(radius + 1) for bits in combinations(range(16), size)]
    for band in _bands(hashes):
        order = np.argsort(band, kind="stable")
        keys = band[order]
        for flip in flips:
            wanted = keys ^ np.uint16(flip)
            first = np.searchsorted(keys, wanted, side="left")
            last = np.searchsorted(keys, wanted, side="right")
            first = np.maximum(first, np.arange(len(keys)) + 1)  # each pair once: with the later of the two
            for rows, others in _expand(first, np.maximum(first, last)):
                yield order[rows], order[others]


def _bands(hashes: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return four 16-bit pieces of each hash, shape (4, N)."""
    bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1)[:, _BIT_ORDER]
    packed = np.packbits(bits, axis=1)  # (N, 8)
    return np.ascontiguousarray(packed).view(np.uint16).T.copy()


def _expand(first: NDArray[np.intp], last: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield (row, i) for every i in `first[row]:last[row]`, in pieces."""
    counts = last - first
    rows = np.flatnonzero(counts)
    ends = np.cumsum(counts[rows])
    start = 0
    while start < len(rows):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        piece, lengths = rows[start:stop], counts[rows[start:stop]]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        yield np.repeat(piece, lengths), np.repeat(first[piece], lengths) + within
        start = stop


def _join(groups: NDArray[np.intp], left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the group of each hash after the pairs are joined."""
    edges = coo_array((np.ones(len(left), dtype=bool), (groups[left], groups[right])), shape=(len(groups),) * 2)
    joined: NDArray[np.intp] = connected_components(edges, directed=False)[1]
    return joined[groups]


def _members(groups: NDArray[np.intp]) -> list[list[int]]:
    order = np.argsort(groups, kind="stable")
    pieces = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return sorted(piece.tolist() for piece in pieces if len(piece) > 1)
