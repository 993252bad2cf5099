"""Suspect boxes that are no pixels x, y, width, height: fractions of the image, or two corners."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_MIN_SIDE = 16  # pixels: in a smaller image a box within one pixel may be meant
_MIN_BOXES = 3
_MIN_PART = 0.2  # of the boxes leave their image as x, y, width, height
_PIXEL = 1.0  # for rounding
_SLACK = 1e-4  # of the image, for rounding


def suspect_form(boxes_xywh: NDArray[np.float64], sizes: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
    """Yield the kind of finding about the boxes of a split, and the reason, if they are written in another form.

    Args:
        boxes_xywh: Shape (M, 4), as they are read: x, y, width, height in pixels.
        sizes: Shape (M, 2), (height, width) in pixels of the image of each.
    """
    # Look for fractions
    has_area = (boxes_xywh[:, 2:] > 0).all(axis=1)
    boxes, sizes = boxes_xywh[has_area], sizes[has_area]
    if not len(boxes):
        return
    if _are_fractions(boxes, sizes):
        reason = f"all {len(boxes)} boxes lie within 0 to 1, in images of at least {sizes.min()} pixels a side: "
        reason += "they look like fractions of the image. Multiply x values and widths by the width of the image, "
        yield "fractions_suspected", f"{reason}y values and heights by its height"
        return

    # Look for corners, among boxes that leave their image
    num_outside = int(_leave(boxes[:, :2], boxes[:, :2] + boxes[:, 2:], sizes).sum())
    is_part = num_outside >= max(_MIN_BOXES, _MIN_PART * len(boxes))
    if is_part and _are_corners(boxes, sizes):
        reason = f"{num_outside} of {len(boxes)} boxes leave their image as x, y, width, height, "
        reason += "and all fit as corners x1, y1, x2, y2. Write [x1, y1, x2 - x1, y2 - y1]"
        yield "corners_suspected", reason


def _are_fractions(boxes: NDArray[np.float64], sizes: NDArray[np.int64]) -> bool:
    far = boxes[:, :2] + boxes[:, 2:]
    is_within = bool((boxes >= 0).all() and (far <= 1 + _SLACK).all() and (sizes >= _MIN_SIDE).all())
    return is_within and (len(boxes) >= _MIN_BOXES or bool((boxes % 1).any()))


def _are_corners(boxes: NDArray[np.float64], sizes: NDArray[np.int64]) -> bool:
    near, far = boxes[:, :2], boxes[:, 2:]
    return bool((far > near).all()) and not _leave(near, far, sizes).any()


def _leave(near: NDArray[np.float64], far: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which boxes leave their image by more than a pixel, shape (M,)."""
    is_out: NDArray[np.bool_] = np.any((near < -_PIXEL) | (far > sizes[:, ::-1] + _PIXEL), axis=1)
    return is_out
