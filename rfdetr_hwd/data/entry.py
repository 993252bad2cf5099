"""Read one annotation of a COCO file: its values, or `None` if it is skipped, and the findings about it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from rfdetr_hwd.data.findings import shown
from rfdetr_hwd.data.segmentation import Box, Outline
from rfdetr_hwd.data.values import MAX_COORDINATE, Id, describe_texts, is_number, read_id, read_number

_CROWD = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}
_IDS = ("id", "image_id", "category_id")
_NUMBERS = ("bbox", "area", "iscrowd")
_TOLERANCE = 1.0  # pixels that a box may leave its image by, for rounding

Values = tuple[int, float, float, float, float, int, bool, float]
"""Image row, x, y, width, height, label, is crowd, area."""
Problem = tuple[str, str]
"""A kind of finding and the reason."""


class Known(NamedTuple):
    """The images and categories that annotations may refer to, by id.

    Attributes:
        rows: Rows of the images that are used.
        sizes: (height, width) of these images in pixels.
        labels: Labels of the classes.
        skipped_images: Images that are listed and not used.
        skipped_categories: Categories that are listed and no class.
    """

    rows: dict[Id, int]
    sizes: Sequence[tuple[int, int]]
    labels: dict[Id, int]
    skipped_images: set[Id]
    skipped_categories: set[Id]


def read_object(annotation: Any, known: Known, seen_ids: set[Id]) -> tuple[Values | None, Sequence[Problem]]:
    """Return the values of an annotation, or `None` if it is skipped, and its problems.

    Args:
        annotation: The entry.
        known: Images and categories that it may refer to.
        seen_ids: Ids of the annotations before it. Its own is added.
    """
    # Find its image and its class
    if not isinstance(annotation, dict):
        return None, [("bad_annotation", f"must be an object, not {shown(annotation)}")]
    image, category = annotation.get("image_id"), annotation.get("category_id")
    area, crowd = annotation.get("area"), annotation.get("iscrowd", 0)
    problems: list[Problem] = []
    _check_id(annotation.get("id"), seen_ids, problems)
    place = _find_place(image, category, known, problems)
    if place is None:
        return None, problems
    row, label = place

    # Read the box, area and crowd flag
    box = _read_checked_box(annotation, known.sizes[row], problems)
    if box is None:
        return None, problems
    if not is_number(area, MAX_COORDINATE**2) or area < 0:
        area = _read_area(area, box, problems)
    if type(crowd) is not int or crowd not in (0, 1):
        crowd = _read_crowd(crowd, problems)

    # Report numbers that are written as text
    if str in map(type, annotation.values()) or str in map(type, annotation.get("bbox") or ()):
        reason = describe_texts(annotation, _IDS, _NUMBERS)
        problems += [("text_value", reason)] if reason else []
    return (row, *box, label, crowd > 0, area), problems


def read_box(annotation: dict[str, Any]) -> tuple[Box | None, str]:
    """Return the box (x, y, width, height) in pixels of an annotation, or why it has none.

    Without `bbox`, the box of its segmentation is used; see `rfdetr_hwd.data.segmentation`.
    """
    outline, bbox = annotation.get("segmentation"), annotation.get("bbox")
    if isinstance(outline, Outline):
        if outline.box is None:
            return None, f"has no bbox, and {outline.problem}"
        bbox = list(outline.box)
    if isinstance(bbox, list) and len(bbox) == 4:
        numbers = bbox if all(map(is_number, bbox)) else [n for n in map(read_number, bbox) if n is not None]
        if len(numbers) == 4:
            x, y, width, height = numbers
            return (x, y, width, height), ""
    return None, f"bbox must be four numbers of pixels (x, y, width, height), not {shown(bbox)}"


def _check_id(value: Any, seen_ids: set[Id], problems: list[Problem]) -> None:
    annotation_id = read_id(value)
    if annotation_id in seen_ids:
        problems.append(("annotation_id", "the id is listed twice"))
    elif not isinstance(annotation_id, int):
        problems.append(("annotation_id", f"id is not a whole number but {shown(value)}"))
    if annotation_id is not None:
        seen_ids.add(annotation_id)


def _find_place(image: Any, category: Any, known: Known, problems: list[Problem]) -> tuple[int, int] | None:
    """Return the row of the image and the label of the class."""
    image_id, category_id = read_id(image), read_id(category)
    row = None if image_id is None else known.rows.get(image_id)
    label = None if category_id is None else known.labels.get(category_id)
    if row is not None and label is not None:
        return row, label
    if row is None and image_id not in known.skipped_images:
        problems.append(("unknown_image", f"belongs to image {shown(image)}, which is not listed"))
    if label is None and category_id not in known.skipped_categories:
        problems.append(("unknown_category", f"has the category {shown(category)}, which is not listed"))
    return None


def _read_checked_box(annotation: dict[str, Any], size: tuple[int, int], problems: list[Problem]) -> Box | None:
    """Return the box of an annotation if it can be used."""
    box, reason = read_box(annotation)
    if box is None:
        problems.append(("bad_box", reason))
        return None
    outline = annotation.get("segmentation")
    if isinstance(outline, Outline):
        if outline.size not in (None, size):
            reason = f"has no bbox, and its RLE has {_name(outline.size or size)} pixels, but its image {_name(size)}"
            problems.append(("bad_box", reason))
            return None
        problems.append(("missing_box", "has no bbox"))
    kind = _check_box(*box, size)
    if kind:
        x, y, width, height = box
        reason = f"the box [{x:g}, {y:g}, {width:g}, {height:g}] {_ABOUT[kind]}"
        problems.append((kind, reason.replace("its image", f"its image of {_name(size)}")))
    return None if kind in ("negative_box", "outside_box") else box


def _check_box(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> str:
    """Return the kind of finding about a box, if there is one."""
    image_height, image_width = size
    if width < 0 or height < 0:
        return "negative_box"
    if x >= image_width or y >= image_height or x + width <= 0 < width or y + height <= 0 < height:
        return "outside_box"
    if not width or not height:
        return "empty_box"
    right, bottom = image_width + _TOLERANCE, image_height + _TOLERANCE
    if x < -_TOLERANCE or y < -_TOLERANCE or x + width > right or y + height > bottom:
        return "clipped_box"
    return ""


_ABOUT = {
    "negative_box": "has a negative width or height",
    "outside_box": "lies outside its image",
    "empty_box": "has no area",
    "clipped_box": "extends beyond its image",
}


def _name(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _read_area(value: Any, box: Box, problems: list[Problem]) -> float:
    """Return the area in pixels, or that of the box if none is given."""
    area = read_number(value, MAX_COORDINATE**2)
    if area is not None and area >= 0:
        return area
    if value is None or value == "":
        problems.append(("missing_area", "has no area"))
    else:
        problems.append(("bad_area", f"area must be a number of pixels, not {shown(value)}"))
    return box[2] * box[3]


def _read_crowd(value: Any, problems: list[Problem]) -> int:
    """Return 1 for a crowd region, and 0 otherwise, also for null and empty text."""
    flag = _CROWD.get(value.strip().lower()) if isinstance(value, str) else value
    if flag is None and not value:
        return 0
    if isinstance(flag, int | float) and flag in (0, 1):
        return int(flag)
    problems.append(("bad_crowd", f"iscrowd must be 0 or 1, not {shown(value)}"))
    return 0
