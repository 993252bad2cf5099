"""Draw a suggestion: the whole image, and beside it the place that it is about, enlarged."""

import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageOps
from numpy.typing import NDArray

from rfdetr_hwd.analysis.audit import Suggestion

OLD, NEW, TWIN, OTHER = "#ff8c1a", "#18c8ff", "#2fe07a", "#e9edf1"
LEGEND = (
    ("annotation in doubt", OLD),
    ("suggested", NEW),
    ("annotation that it repeats", TWIN),
    ("other annotation", OTHER),
)
"""What the colours of boxes stand for."""

_SIDE, _LEAST_SIDE, _GAP = 480, 240, 6  # pixels of the image at most, of the enlarged part, and between the two
_GROUND = "#80868d"
_CONTEXT, _LEAST_WINDOW = 2.2, 24  # side of the enlarged window, in boxes and in pixels of the image

Box = Sequence[float]
_Drawn = tuple[Box, str, int]  # a box, its colour, the width of its line


def draw_suggestion(
    image: PIL.Image.Image, suggestion: Suggestion, others_xywh: Sequence[Box], twin_xywh: Box | None = None
) -> PIL.Image.Image:
    """Return the image with all its annotations, and its part around the suggestion.

    Args:
        image: RGB image.
        suggestion: What to show.
        others_xywh: Boxes of the other annotations of the image, in its pixels.
        twin_xywh: Box of the annotation that a duplicate repeats.
    """
    # An annotation in doubt is drawn last and thinner, as what contradicts it may have the same box
    labels = [label for label in (suggestion.new, suggestion.old) if label]
    boxes: list[_Drawn] = [(box, OTHER, 1) for box in others_xywh]
    boxes += [(twin_xywh, TWIN, 6)] if twin_xywh is not None else []
    boxes += [(label.box_xywh, NEW, 5) for label in (suggestion.new,) if label]
    boxes += [(label.box_xywh, OLD, 3) for label in (suggestion.old,) if label]

    # Draw the image, and the part
    whole = PIL.ImageOps.contain(image, (_SIDE, _SIDE))
    _draw(whole, boxes, (0, 0), whole.width / image.width)
    left, top, window = find_window([label.box_xywh for label in labels], image.size)
    side = max(whole.height, _LEAST_SIDE)
    part = image.crop((left, top, left + window, top + window)).resize((side, side), PIL.Image.Resampling.BICUBIC)
    _draw(part, boxes, (left, top), side / window)

    # Put both on one sheet
    sheet = PIL.Image.new("RGB", (whole.width + _GAP + side, side), _GROUND)
    sheet.paste(whole, (0, 0))
    sheet.paste(part, (whole.width + _GAP, 0))
    return sheet


def find_window(boxes_xywh: Sequence[Box], size: tuple[int, int]) -> tuple[int, int, int]:
    """Return left, top and side of a square window around boxes, in the image as far as the boxes fit into a square.

    Args:
        boxes_xywh: At least one.
        size: Width and height of the image.
    """
    corners = np.array([(x, y, x + width, y + height) for x, y, width, height in boxes_xywh])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    extent = float((high - low).max())
    side = max(min(max(_LEAST_WINDOW, round(_CONTEXT * extent)), *size), min(math.ceil(extent), max(size)))
    starts = [round(float(middle) - side / 2) for middle in (low + high) / 2]
    left, top = (max(0, min(start, length - side)) for start, length in zip(starts, size, strict=True))
    return left, top, side


def _draw(image: PIL.Image.Image, boxes: Sequence[_Drawn], origin: tuple[int, int], scale: float) -> None:
    """Draw boxes in place, those of other annotations thin."""
    draw = PIL.ImageDraw.Draw(image)
    for (x, y, width, height), colour, line in boxes:
        corners: NDArray[np.float64] = (np.array([x, y, x + width, y + height]) - np.tile(origin, 2)) * scale
        draw.rectangle(tuple(corners.tolist()), outline=colour, width=line)
