"""Draw an image twice: with its ground truth, and with its detections, every error in the colour of its kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageOps
from numpy.typing import NDArray

from rfdetr_hwd.analysis.worst import NamedError
from rfdetr_hwd.report.evaluation_plots import KIND_COLOURS
from rfdetr_hwd.report.lettering import load_font

CORRECT, OTHER = "#35c46a", "#d7dde3"
"""Colours of correct detections and found objects, and of objects that only an erroneous detection is about."""
LEGEND = (("correct", CORRECT), *KIND_COLOURS.items(), ("object behind such an error", OTHER))
"""What the colours of boxes stand for."""

_SIDE, _GAP = 460, 6  # pixels of one image at most, and between the two
_MAX_NAMES, _MAX_LISTED = 8, 12  # errors that are named in the picture, and of each kind in its caption

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What became of the objects and the detections of an image, boxes xyxy in its pixels.

    Attributes:
        found: Boxes of found objects, shape (n, 4).
        behind: Boxes of objects that are not found, and that a badly placed or wrong-class detection is about.
        correct: Boxes of correct detections.
        errors: Missed objects and wrong detections.
    """

    found: Boxes
    behind: Boxes
    correct: Boxes
    errors: Sequence[NamedError]


def draw_outcome(image: PIL.Image.Image, outcome: Outcome) -> PIL.Image.Image:
    """Return ground truth and detections side by side. Errors are numbered as in `list_errors`.

    Args:
        image: RGB image.
        outcome: What to draw on it.
    """
    # Resize the image once, for both sides
    small = PIL.ImageOps.contain(image, (_SIDE, _SIDE))
    scale = np.tile([small.width / image.width, small.height / image.height], 2)
    truth, found = small.copy(), small.copy()

    # Draw what is right, then what is wrong above it
    for side, boxes, colour in (
        (truth, outcome.found, CORRECT),
        (truth, outcome.behind, OTHER),
        (found, outcome.correct, CORRECT),
    ):
        for box in boxes:
            PIL.ImageDraw.Draw(side).rectangle(tuple(box * scale), outline=colour, width=2)
    has_names = len(outcome.errors) <= _MAX_NAMES
    for number, error in enumerate(outcome.errors, start=1):
        text = f"{number} {error.kind}" if has_names else str(number)
        box = np.array(error.box_xyxy) * scale
        _draw_error(truth if error.kind == "missed" else found, box, text, KIND_COLOURS[error.kind])

    # Put both on one sheet
    sheet = PIL.Image.new("RGB", (2 * small.width + _GAP, small.height), "white")
    sheet.paste(truth, (0, 0))
    sheet.paste(found, (small.width + _GAP, 0))
    return sheet


def list_errors(errors: Sequence[NamedError]) -> str:
    """Return the errors of an image as text, a line for each kind, with their numbers in the picture."""
    lines = []
    for kind in dict.fromkeys(error.kind for error in errors):
        mine = [(number, error) for number, error in enumerate(errors, start=1) if error.kind == kind]
        texts = [f"{number} {_describe(error)}" for number, error in mine[:_MAX_LISTED]]
        more = f", and {len(mine) - _MAX_LISTED} more" if len(mine) > _MAX_LISTED else ""
        lines.append(f"{kind}: {', '.join(texts)}{more}")
    return "\n".join(lines)


def _describe(error: NamedError) -> str:
    score = "" if error.score is None else f" {error.score:.2f}"
    truth = f" (truth: {error.true_class})" if error.true_class is not None else ""
    return f"{error.class_name}{score}{truth}"


def _draw_error(image: PIL.Image.Image, box: NDArray[np.float64], text: str, colour: str) -> None:
    """Draw a box with a text in its corner, within the image."""
    draw = PIL.ImageDraw.Draw(image)
    x0, y0, x1, y1 = box.tolist()
    draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=3)
    font = load_font(text, 11)
    width, height = font.getlength(text) + 5, 14
    left = min(max(0.0, x0), image.width - width)
    top = min(max(0.0, y0), image.height - height)
    draw.rectangle((left, top, left + width, top + height), fill=colour)
    draw.text((left + 3, top + height / 2), text, fill="white", font=font, anchor="lm")
