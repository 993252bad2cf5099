"""Draw detections on images, through supervision; labels in fonts that have their characters."""

import copy
from collections.abc import Sequence

import numpy as np
import PIL.Image
import supervision as sv

from rfdetr_hwd.report.lettering import font_of, plain

_GAP = 4  # pixels between two cells

_FONT_PIXELS = 30  # of letters at supervision's scale 1


def draw_detections(image: PIL.Image.Image, detections: sv.Detections, names: Sequence[str]) -> PIL.Image.Image:
    """Return a copy of an image with boxes, class names and scores, and the numbers of tracks if there are any.

    Args:
        image: RGB image.
        detections: With `data["class_name"]`, as `Detector.predict` returns them. A negative `tracker_id` is no track.
        names: Class names in label order, as they are drawn; see `rfdetr_hwd.report.lettering.drawable_names`.
    """
    thickness = sv.calculate_optimal_line_thickness(image.size)
    size = max(1, round(_FONT_PIXELS * sv.calculate_optimal_text_scale(image.size)))
    tracks = detections.tracker_id if detections.tracker_id is not None else np.full(len(detections), -1)
    rows = zip(detections.class_id, detections.confidence, tracks, strict=True)
    labels = [
        f"{plain(names[label], 40)} {score:.2f}{f' #{track}' if track >= 0 else ''}" for label, score, track in rows
    ]
    boxed: PIL.Image.Image = sv.BoxAnnotator(thickness=thickness).annotate(image.copy(), detections)
    return annotate_labels(boxed, detections, labels, size)


def annotate_labels(
    image: PIL.Image.Image,
    detections: sv.Detections,
    labels: Sequence[str],
    size: int,
    colours: sv.ColorPalette = sv.ColorPalette.DEFAULT,
    are_spread: bool = False,
) -> PIL.Image.Image:
    """Write a label at each box, in place, and return the image.

    Args:
        image: RGB image.
        detections: The boxes.
        labels: A text for each that can be drawn.
        size: Of the letters, in pixels.
        colours: Colours of the classes.
        are_spread: Move labels apart and into the image.
    """
    # An annotator has one font: write the labels of each font by themselves
    fonts = [font_of(label) for label in labels]
    for font in dict.fromkeys(fonts):
        chosen = np.array([other == font for other in fonts])
        annotator = sv.RichLabelAnnotator(
            colours, font_path=str(font), font_size=size, text_padding=2, smart_position=are_spread
        )
        texts = [label for label, is_chosen in zip(labels, chosen, strict=True) if is_chosen]
        image = annotator.annotate(image, detections[chosen], labels=texts)
    return image


def draw_cell(
    image: PIL.Image.Image, detections: sv.Detections, names: Sequence[str], cell_size: int
) -> PIL.Image.Image:
    """Return an image with its detections as a cell of `tile_cells`: resized, then drawn on.

    Args:
        image: RGB image.
        detections: With `data["class_name"]`, as `Detector.predict` returns them.
        names: Class names, as in `draw_detections`.
        cell_size: Larger of the cell's width and height in pixels, with the gap to the next one.
    """
    scale = (cell_size - _GAP) / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    scaled = copy.deepcopy(detections)
    scaled.xyxy = detections.xyxy * np.tile([width / image.width, height / image.height], 2)
    return draw_detections(image.resize((width, height)), scaled, names)


def tile_cells(cells: Sequence[PIL.Image.Image], columns: int, cell_size: int) -> PIL.Image.Image:
    """Arrange pictures of one width in a grid.

    Args:
        cells: At least one.
        columns: Cells in a row.
        cell_size: Width of a cell in pixels, with the gap to the next one.
    """
    height = max(cell.height for cell in cells) + _GAP
    rows = -(-len(cells) // columns)
    sheet = PIL.Image.new("RGB", (min(columns, len(cells)) * cell_size, rows * height), "white")
    for index, cell in enumerate(cells):
        sheet.paste(cell, ((index % columns) * cell_size + _GAP // 2, (index // columns) * height + _GAP // 2))
    return sheet
