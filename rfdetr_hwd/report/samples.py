"""Draw annotated images on sheets: boxes in the colour of their class, a caption beneath each, a legend on top."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageOps
import supervision as sv
from numpy.typing import NDArray

from rfdetr_hwd.report.lettering import drawable_names, drawable_text, load_font, plain
from rfdetr_hwd.report.pictures import annotate_labels, tile_cells

PALETTE = (
    *("#e6412e", "#1f78d1", "#f5a800", "#18a058", "#9b4fd3", "#00b3c4"),
    *("#ff6fb1", "#7a9a01", "#8c5a2b", "#4650c8", "#d98200", "#0f8f7f"),
)
"""Colours of the classes, in label order and again from the first."""

_COLOURS = sv.ColorPalette.from_hex(list(PALETTE))
_INK, _SOFT = "#1d2127", "#5d6672"
_CAPTION, _HEADING = 20, 26  # heights in pixels
_GAP = 4  # pixels between two cells


@dataclass(frozen=True)
class Sample:
    """An image with its objects.

    Attributes:
        image: RGB image.
        boxes_xyxy: Shape (n, 4), in pixels of the image.
        labels: Shape (n,).
        caption: Text below it.
    """

    image: PIL.Image.Image
    boxes_xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]
    caption: str


def draw_sample(sample: Sample, class_names: Sequence[str]) -> PIL.Image.Image:
    """Return a copy of the image with its boxes, and with class names if there are more classes than colours.

    Args:
        sample: Image and objects.
        class_names: Class names in label order.
    """
    thickness = sv.calculate_optimal_line_thickness(sample.image.size)
    detections = sv.Detections(xyxy=sample.boxes_xyxy, class_id=sample.labels)
    drawn: PIL.Image.Image = sv.BoxAnnotator(_COLOURS, thickness).annotate(sample.image.copy(), detections)
    if len(class_names) > len(PALETTE):
        names = drawable_names(class_names)
        labels = [plain(names[label], 20) for label in sample.labels]
        drawn = annotate_labels(drawn, detections, labels, 10, _COLOURS, are_spread=True)
    return drawn


def draw_sheet(
    samples: Sequence[Sample], class_names: Sequence[str], columns: int, cell_size: int, headings: Sequence[str] = ()
) -> PIL.Image.Image:
    """Tile images with their objects into one picture.

    Args:
        samples: At least one image.
        class_names: Class names in label order.
        columns: Cells in a row.
        cell_size: Larger of a cell's width and height in pixels.
        headings: Text above each column.
    """
    # Draw the cells and what is above them
    cells = [_draw_cell(sample, class_names, cell_size - _GAP) for sample in samples]
    tiles = tile_cells(cells, columns, cell_size)
    strips = [_draw_legend(class_names, tiles.width)] if len(class_names) <= len(PALETTE) else []
    if headings:
        strips.append(_draw_headings(headings, cell_size, tiles.width))

    # Stack all parts
    sheet = PIL.Image.new("RGB", (tiles.width, tiles.height + sum(strip.height for strip in strips)), "white")
    top = 0
    for part in (*strips, tiles):
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _draw_cell(sample: Sample, class_names: Sequence[str], cell_size: int) -> PIL.Image.Image:
    """Return the resized image with its boxes, in the middle of a cell with its caption."""
    # Resize the image and its boxes into the cell
    image = PIL.ImageOps.contain(sample.image, (cell_size, cell_size - _CAPTION))
    scale = np.tile([image.width / sample.image.width, image.height / sample.image.height], 2)
    left = (cell_size - image.width) // 2
    canvas = PIL.Image.new("RGB", (cell_size, image.height), "white")
    canvas.paste(image, (left, 0))
    boxes_xyxy = sample.boxes_xyxy * scale + [left, 0, left, 0]

    # Draw them, and the caption
    cell = PIL.Image.new("RGB", (cell_size, image.height + _CAPTION), "white")
    cell.paste(draw_sample(replace(sample, image=canvas, boxes_xyxy=boxes_xyxy), class_names))
    text = drawable_text(plain(sample.caption, cell_size // 7))
    _write(cell, (cell_size / 2, image.height + _CAPTION / 2), text, "mm", size=11, colour=_SOFT)
    return cell


def _draw_headings(headings: Sequence[str], cell_size: int, width: int) -> PIL.Image.Image:
    strip = PIL.Image.new("RGB", (width, _HEADING), "white")
    for column, heading in enumerate(headings):
        middle = (column + 0.5) * cell_size, _HEADING / 2
        _write(strip, middle, plain(heading, cell_size // 8), "mm", size=13, colour=_INK)
    return strip


def _draw_legend(class_names: Sequence[str], width: int) -> PIL.Image.Image:
    """Return a strip with the colour of each class, in as many lines as it takes."""
    # Place the names, with a new line where one is full
    places, x, line = [], 8.0, 0
    for name in (plain(name, 32) for name in drawable_names(class_names)):
        needed = 18 + load_font(name, 13).getlength(name) + 18
        if x > 8 and x + needed > width:
            x, line = 8.0, line + 1
        places.append((x, line, name))
        x += needed

    # Draw a square and the name for each class
    strip = PIL.Image.new("RGB", (width, (line + 1) * _HEADING), "white")
    draw = PIL.ImageDraw.Draw(strip)
    for (x, line, name), colour in zip(places, PALETTE, strict=False):
        middle = (line + 0.5) * _HEADING
        draw.rectangle((x, middle - 6, x + 12, middle + 6), fill=colour)
        _write(strip, (x + 18, middle), name, "lm", size=13, colour=_INK)
    return strip


def _write(image: PIL.Image.Image, place: tuple[float, float], text: str, anchor: str, size: int, colour: str) -> None:
    PIL.ImageDraw.Draw(image).text(place, text, fill=colour, font=load_font(text, size), anchor=anchor)
