"""Draw detections on images, through supervision."""

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


def grid(images: list[PIL.Image.Image], columns: int, side: int) -> PIL.Image.Image:
    """Tile images into one picture, each fitted into a square cell.

    Args:
        images: At least one RGB image.
        columns: Cells in a row.
        side: Side of a cell in pixels.
    """
    rows = -(-len(images) // columns)
    sheet = PIL.Image.new("RGB", (min(columns, len(images)) * side, rows * side), "white")
    for index, image in enumerate(images):
        cell = PIL.ImageOps.contain(image, (side - 4, side - 4))
        sheet.paste(cell, ((index % columns) * side + 2, (index // columns) * side + 2))
    return sheet
