"""Reduce a COCO segmentation, polygons or RLE, to its box: all that detection needs of it, where an entry has no box.

In plain Python and numpy, linear in the size of the entry: hostile values never reach native code.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.data.findings import shown
from rfdetr_hwd.data.values import read_number

_MAX_SIDE = 1 << 20  # pixels
_MAX_DIGITS = 10  # characters of a number in a compressed RLE, 5 bits each
Box = tuple[float, float, float, float]


class Outline(NamedTuple):
    """What is kept of a segmentation.

    Attributes:
        box: (x, y, width, height) in pixels; `None` where there is none.
        size: (height, width) of the mask that an RLE describes.
        problem: Why there is no box.
    """

    box: Box | None
    size: tuple[int, int] | None = None
    problem: str = ""


def outline_of(segmentation: Any) -> Outline:
    """Return the box of a segmentation.

    The box of polygons goes from their smallest to their largest coordinates. The box of an RLE holds the pixels of its
    mask, as `pycocotools.mask.toBbox` has it.

    Args:
        segmentation: A list of polygons `[x1, y1, x2, y2, ...]` (also one such polygon, or points as pairs), or an RLE:
            an object with `size` (height, width) and `counts`, a list or compressed text.
    """
    try:
        if isinstance(segmentation, dict):
            return _outline_of_rle(segmentation)
        corners = _points(segmentation)
        x0, y0 = corners.min(axis=0).tolist()
        x1, y1 = corners.max(axis=0).tolist()
        return Outline((x0, y0, x1 - x0, y1 - y0))
    except ValueError as error:
        return Outline(None, problem=str(error))


def _points(segmentation: Any) -> NDArray[np.float64]:
    """Return the points of all polygons, shape (n, 2)."""
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"its segmentation is {shown(segmentation)}")
    is_nested = all(isinstance(part, list) for part in segmentation)
    polygons = [part for part in segmentation if part] if is_nested else [segmentation]
    if all(len(part) == 2 and not isinstance(part[0], list) for part in polygons):  # one polygon, its points as pairs
        polygons = [polygons]
    values = [value for polygon in polygons for value in _flat(polygon)]
    numbers = [number for number in map(read_number, values) if number is not None]
    if len(numbers) < len(values):
        wrong = next(value for value in values if read_number(value) is None)
        raise ValueError(f"its segmentation holds {shown(wrong)}, but coordinates must be numbers of pixels")
    return np.array(numbers, dtype=np.float64).reshape(-1, 2)


def _flat(polygon: list[Any]) -> Iterator[Any]:
    """Yield x1, y1, x2, y2, ... of a polygon."""
    if polygon and all(isinstance(point, list) and len(point) == 2 for point in polygon):
        polygon = [value for point in polygon for value in point]
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"its segmentation holds {shown(polygon)}, but a polygon has at least three points")
    yield from polygon


def _outline_of_rle(segmentation: dict[str, Any]) -> Outline:
    # Read size and counts
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(n) is int and 0 < n < _MAX_SIDE for n in size):
        raise ValueError(f"its RLE has the size {shown(size)}, which must be height and width in pixels")
    height, width = size
    if isinstance(counts, str):
        runs = _decompressed(counts)
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        runs = counts
    else:
        raise ValueError(f"its RLE has the counts {shown(counts)}, which must be whole numbers or compressed text")

    # Check them: annotation files may be hostile
    if not all(0 <= run <= height * width for run in runs):
        raise ValueError("its RLE has counts that are negative or larger than its image")
    edges = np.cumsum(np.array(runs, dtype=np.float64))  # float: the sum of hostile counts must not wrap around
    if len(edges) and edges[-1] > height * width:
        raise ValueError(f"its RLE describes {edges[-1]:.0f} pixels of an image of {width}x{height}")

    # Compute the box from the runs inside the mask, column by column
    pairs = edges[: len(edges) // 2 * 2].reshape(-1, 2).astype(np.int64)
    starts, ends = pairs[pairs[:, 1] > pairs[:, 0]].T  # of the runs inside the mask, column by column
    if not len(starts):
        raise ValueError("its RLE marks no pixel")
    x0, x1 = int(starts[0]) // height, (int(ends[-1]) - 1) // height + 1
    y0, y1 = int((starts % height).min()), int(((ends - 1) % height).max()) + 1
    if (starts // height != (ends - 1) // height).any():  # a run over two columns touches top and bottom
        y0, y1 = 0, height
    return Outline((float(x0), float(y0), float(x1 - x0), float(y1 - y0)), (height, width))


def _decompressed(text: str) -> list[int]:
    """Return the counts of a compressed RLE.

    Each is written in characters from `0` on with 5 bits each, the lowest first; a sixth bit says that more follow, and
    the fifth of the last one is the sign. From the fourth on they are differences to the count before the last.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift >= 5 * _MAX_DIGITS:
            raise ValueError(f"its RLE has the counts {shown(text)}, which is no compressed RLE")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its RLE is cut off")
    return counts


def keep_outline(entry: dict[str, Any]) -> None:
    """Take the segmentation out of an entry that has a box, and reduce it to its outline in one that has none."""
    segmentation, bbox = entry.pop("segmentation", None), entry.get("bbox")
    if segmentation and is_missing_box(bbox):
        entry["segmentation"] = outline_of(segmentation)


def is_missing_box(bbox: object) -> bool:
    """Return whether a bbox says nothing: null, empty, or four zeros."""
    return bbox is None or bbox == "" or isinstance(bbox, list) and bbox in ([], [0, 0, 0, 0])
