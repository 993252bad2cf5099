"""Annotations of images as they are stored, turned into those of the upright images."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.images import Header, ImageError
from rfdetr_hwd.data.orientation import SIDEWAYS, turn_box

_THREADS = 8


class Upright(NamedTuple):
    """A split whose annotations refer to the upright images.

    Attributes:
        data: The split.
        num_turned: Images that are turned upright as their EXIF orientation says; of others it says nothing.
        num_changed: Those among them that were annotated as stored, and whose boxes were turned.
    """

    data: DetectionData
    num_turned: int
    num_changed: int


def turn_upright(data: DetectionData) -> Upright:
    """Return the annotations of the upright images, with boxes that are exactly those of the stored ones, turned.

    Images that cannot be read stay as they are.
    """
    sizes, boxes, num_turned, num_changed = data.sizes.copy(), data.boxes_xywh.copy(), 0, 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for row, header in enumerate(pool.map(lambda row: _try_header(data, row), range(len(data)))):
            if header is None or header.orientation == 1:
                continue
            num_turned += 1
            if header.is_kept(data.own_options.exif, data.size(row)):
                num_changed += 1
                stored = data.size(row)
                sizes[row] = stored[::-1] if header.orientation in SIDEWAYS else stored
                for i in range(data.offsets[row], data.offsets[row + 1]):
                    boxes[i] = turn_box(boxes[i].tolist(), stored, header.orientation)
    options = replace(data.options, exif="apply")
    return Upright(
        replace(data, sizes=sizes, boxes_xywh=boxes, options=options, is_stored=False), num_turned, num_changed
    )


def _try_header(data: DetectionData, row: int) -> Header | None:
    try:
        return data.header(row)
    except ImageError:
        return None
