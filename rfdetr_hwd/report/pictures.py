"""Draw detections on images, through supervision; labels in fonts that have their characters."""

import copy
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageOps
import supervision as sv

from rfdetr_hwd.report.lettering import font_of, plain

_FONT_PIXELS = 30  # of letters at supervision's scale 1


def draw_detections(image: PIL.Image.Image, detections: sv.Detections, names: Sequence[str]) -> PIL.Image.Image:
    """Return a copy of an image with boxes, class names and scores.

    Args:
        image: RGB image.
        detections: With `data["class_name"]`, as `Detector.predict` returns them.
        names: Class names in label order, as they are drawn; see `rfdetr_hwd.report.lettering.drawable_names`.
    """
    thickness = sv.calculate_optimal_line_thickness(image.size)
    size = round(_FONT_PIXELS * sv.calculate_optimal_text_scale(image.size))
    pairs = zip(detections.class_id, detections.confidence, strict=True)
    labels = [f"{plain(names[label], 40)} {score:.2f}" for label, score in pairs]
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
    fonts = [font_of(label) for label in labels]
    for font in dict.fromkeys(fonts):
        chosen = np.array([other == font for other in fonts])
        annotator = sv.RichLabelAnnotator(
            colours, font_path=str(font), font_size=size, text_padding=2, smart_position=are_spread
        )
        texts = [label for label, is_chosen in zip(labels, chosen, strict=True) if is_chosen]
        image = annotator.annotate(image, detections[chosen], labels=texts)
    return image


def draw_overview(
    pairs: list[tuple[PIL.Image.Image, sv.Detections]], names: Sequence[str], columns: int, side: int
) -> PIL.Image.Image:
    """Tile images with their detections into one picture, each enlarged or reduced to a cell before it is drawn on.

    Args:
        pairs: At least one RGB image with its detections.
        names: Class names, as in `draw_detections`.
        columns: Cells in a row.
        side: Longer side of a cell in pixels.
    """
    cells = []
    for image, detections in pairs:
        cell = PIL.ImageOps.contain(image, (side - 4, side - 4))
        scaled = copy.deepcopy(detections)
        scaled.xyxy = detections.xyxy * (cell.width / image.width)
        cells.append(draw_detections(cell, scaled, names))
    height = max(cell.height for cell in cells) + 4
    rows = -(-len(cells) // columns)
    sheet = PIL.Image.new("RGB", (min(columns, len(cells)) * side, rows * height), "white")
    for index, cell in enumerate(cells):
        sheet.paste(cell, ((index % columns) * side + 2, (index // columns) * height + 2))
    return sheet
