"""Draw detections on images, through supervision."""

import copy
from collections.abc import Sequence

import numpy as np
import PIL.Image
import supervision as sv

_GAP = 4  # pixels between two cells


def draw_detections(image: PIL.Image.Image, detections: sv.Detections) -> PIL.Image.Image:
    """Return a copy of an image with boxes, class names and scores.

    Args:
        image: RGB image.
        detections: With `data["class_name"]`, as `Detector.predict` returns them.
    """
    thickness = sv.calculate_optimal_line_thickness(image.size)
    scale = sv.calculate_optimal_text_scale(image.size)
    labels = [
        f"{name} {score:.2f}" for name, score in zip(detections["class_name"], detections.confidence, strict=True)
    ]
    boxed = sv.BoxAnnotator(thickness=thickness).annotate(image.copy(), detections)
    annotator = sv.LabelAnnotator(text_scale=scale, text_padding=2)
    labelled: PIL.Image.Image = annotator.annotate(boxed, detections, labels=labels)
    return labelled


def draw_cell(image: PIL.Image.Image, detections: sv.Detections, side: int) -> PIL.Image.Image:
    """Return an image with its detections as a cell of `tile_cells`: enlarged or reduced, then drawn on.

    Args:
        image: RGB image.
        detections: With `data["class_name"]`, as `Detector.predict` returns them.
        side: Longer side of the cell in pixels, the gap to the next one included.
    """
    scale = (side - _GAP) / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    scaled = copy.deepcopy(detections)
    scaled.xyxy = detections.xyxy * np.tile([width / image.width, height / image.height], 2)
    return draw_detections(image.resize((width, height)), scaled)


def tile_cells(cells: Sequence[PIL.Image.Image], columns: int, side: int) -> PIL.Image.Image:
    """Put pictures of one width beside and beneath each other.

    Args:
        cells: At least one.
        columns: Cells in a row.
        side: Width of a cell in pixels, the gap to the next one included.
    """
    height = max(cell.height for cell in cells) + _GAP
    rows = -(-len(cells) // columns)
    sheet = PIL.Image.new("RGB", (min(columns, len(cells)) * side, rows * height), "white")
    for index, cell in enumerate(cells):
        sheet.paste(cell, ((index % columns) * side + _GAP // 2, (index // columns) * height + _GAP // 2))
    return sheet
