"""Draw detections on images, through supervision."""

import copy

import PIL.Image
import PIL.ImageOps
import supervision as sv


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


def draw_overview(pairs: list[tuple[PIL.Image.Image, sv.Detections]], columns: int, side: int) -> PIL.Image.Image:
    """Tile images with their detections into one picture, each enlarged or reduced to a cell before it is drawn on.

    Args:
        pairs: At least one RGB image with its detections.
        columns: Cells in a row.
        side: Longer side of a cell in pixels.
    """
    cells = []
    for image, detections in pairs:
        cell = PIL.ImageOps.contain(image, (side - 4, side - 4))
        scaled = copy.deepcopy(detections)
        scaled.xyxy = detections.xyxy * (cell.width / image.width)
        cells.append(draw_detections(cell, scaled))
    height = max(cell.height for cell in cells) + 4
    rows = -(-len(cells) // columns)
    sheet = PIL.Image.new("RGB", (min(columns, len(cells)) * side, rows * height), "white")
    for index, cell in enumerate(cells):
        sheet.paste(cell, ((index % columns) * side + 2, (index // columns) * height + 2))
    return sheet
