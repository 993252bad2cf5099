"""Check every annotation of a split and put what can be used into arrays; findings say what cannot, and why."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.data.annotations import DetectionData, Shards
from rfdetr_hwd.data.coco import RawSplit
from rfdetr_hwd.data.files import FileList
from rfdetr_hwd.data.findings import DatasetError, Findings, is_id, name_entry, shown

MAX_COORDINATE = 1e7
"""Bound on coordinates and, squared, on areas, in pixels: pycocotools' native code crashes on huge ones."""
MAX_SIDE = 1 << 20
"""Bound on an image's sides in pixels."""
_MAX_NAME = 1024


class _Images(NamedTuple):
    """The images that are used."""

    ids: list[int]
    names: list[str]
    sizes: list[tuple[int, int]]
    left_out: set[Any]


def index_split(raw: RawSplit, name: str, files: FileList, findings: Findings) -> DetectionData:
    """Check every entry and put what can be used into arrays.

    A category 0 without annotations that only groups the others (Roboflow's) is no class.

    Args:
        raw: The entries.
        name: Name of the split.
        files: The image files that are there.
        findings: Receives what is wrong.

    Raises:
        DatasetError: No image or no class is left.
    """
    classes = _index_categories(raw, findings)
    images = _index_images(raw, files, findings)
    if not images.ids or not classes:
        what = "images" if not images.ids else "classes"
        first = next((str(findings.examples[kind][0]) for kind in findings.kinds("error")), "")
        raise DatasetError(f"{raw.where} lists no {what}" + (f" that can be used: {first}" if first else ""))
    labels = {category_id: label for label, category_id in enumerate(classes)}
    table = _index_annotations(raw, images, labels, findings)
    rows = table[:, 0].astype(np.int64)
    order = np.argsort(rows, kind="stable")
    rows, table = rows[order], table[order]
    return DetectionData(
        name=name,
        images=files.root,
        class_names=tuple(classes.values()),
        category_ids=tuple(classes),
        image_ids=np.array(images.ids, dtype=np.int64),
        file_names=np.array(images.names, dtype=np.dtypes.StringDType()),
        sizes=np.array(images.sizes, dtype=np.int64).reshape(-1, 2),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(images.ids)))]).astype(np.int64),
        boxes_xywh=np.ascontiguousarray(table[:, 1:5]),
        labels=table[:, 5].astype(np.int64),
        crowd=table[:, 6] > 0,
        areas=np.ascontiguousarray(table[:, 7]),
        fingerprint=_fingerprint(raw, images),
        shards=_shards(raw, images.ids),
    )


def _fingerprint(raw: RawSplit, images: _Images) -> str:
    """Return a hash of the annotations and of the images that are used, which can change while the former do not."""
    used = json.dumps([images.ids, images.names, images.sizes])
    return hashlib.sha256(f"{raw.fingerprint} {used}".encode()).hexdigest()


def _shards(raw: RawSplit, image_ids: list[int]) -> Shards | None:
    if raw.shards is None:
        return None
    paths, members = raw.shards
    return Shards(paths, np.array([members[image_id] for image_id in image_ids], dtype=np.int64).reshape(-1, 3))


def _index_categories(raw: RawSplit, findings: Findings) -> dict[int, str]:
    """Return class names by category id, ascending."""
    used = {a.get("category_id") for a in raw.annotations if isinstance(a, dict) and is_id(a.get("category_id"))}
    groups = [c.get("supercategory") for c in raw.categories if isinstance(c, dict)]
    classes: dict[int, str] = {}
    for number, category in enumerate(raw.categories):
        who, problem = name_entry("category", number, category), _category_problem(category)
        if problem:
            findings.add("bad_category", raw.where, who, problem)
            continue
        category_id, name = category["id"], category["name"]
        if category_id == 0 and 0 not in used and name in groups and category.get("supercategory") != name:
            continue
        if category_id in classes:
            findings.add("duplicate_category", raw.where, who, "the id is listed twice")
        elif name in classes.values():
            findings.add("duplicate_category", raw.where, who, f"the name {shown(name)} is listed twice")
        else:
            classes[category_id] = name
    return dict(sorted(classes.items()))


def _category_problem(category: Any) -> str:
    if not isinstance(category, dict):
        return f"must be an object, not {shown(category)}"
    if not is_id(category.get("id")):
        return f"id must be a whole number, not {shown(category.get('id'))}"
    if not _is_name(category.get("name")):
        return f"name must be text, not {shown(category.get('name'))}"
    return ""


def _index_images(raw: RawSplit, files: FileList, findings: Findings) -> _Images:
    images = _Images([], [], [], set())
    seen_ids: set[int] = set()
    seen_names: set[str] = set()
    shared = _shared_ids(raw)
    for number, image in enumerate(raw.images):
        kind, reason = _image_problem(image, seen_ids, files)
        if isinstance(image, dict) and is_id(image.get("id")) and image["id"] in shared:
            kind, reason = "duplicate_image", f"several images have the id: {', '.join(shared[image['id']])}"
        if kind:
            findings.add(kind, raw.where, name_entry("image", number, image), reason)
            if isinstance(image, dict) and is_id(image.get("id")) and image["id"] not in seen_ids:
                images.left_out.add(image["id"])
            continue
        if image["file_name"] in seen_names:
            reason = f"the file {shown(image['file_name'])} is listed twice"
            findings.add("duplicate_file", raw.where, name_entry("image", number, image), reason)
        seen_ids.add(image["id"])
        seen_names.add(image["file_name"])
        images.ids.append(image["id"])
        images.names.append(image["file_name"])
        images.sizes.append((int(image["height"]), int(image["width"])))
    images.left_out.difference_update(seen_ids)
    return images


def _shared_ids(raw: RawSplit) -> dict[int, list[str]]:
    """Return the ids that several files have, and the names of these: a box of such an id may be of any of them.

    In shards each image comes with its own boxes.
    """
    names: dict[int, set[str]] = {}
    for image in raw.images if raw.shards is None else ():
        if isinstance(image, dict) and is_id(image.get("id")):
            names.setdefault(image["id"], set()).add(shown(image.get("file_name")))
    return {image_id: sorted(files) for image_id, files in names.items() if len(files) > 1}


def _image_problem(image: Any, seen_ids: set[int], files: FileList) -> tuple[str, str]:
    """Return the kind of finding and the reason, or two empty texts."""
    if not isinstance(image, dict):
        return "bad_image", f"must be an object, not {shown(image)}"
    image_id, name = image.get("id"), image.get("file_name")
    if not is_id(image_id):
        return "bad_image", f"id must be a whole number, not {shown(image_id)}"
    if not _is_name(name):
        return "bad_image", f"file_name must be text of at most {_MAX_NAME} characters, not {shown(name)}"
    if image_id in seen_ids:
        return "duplicate_image", "the id is listed twice"
    for side in ("width", "height"):
        value = image.get(side)
        if not _is_number(value, MAX_SIDE) or value < 1 or value != int(value):
            return "bad_size", f"{side} must be a whole number of pixels, not {shown(value)}"
    return files.problem(str(name))


def _index_annotations(
    raw: RawSplit, images: _Images, labels: dict[int, int], findings: Findings
) -> NDArray[np.float64]:
    """Return (image row, x, y, width, height, label, is crowd, area) of the annotations that are used, shape (M, 8)."""
    listed = {c["id"] for c in raw.categories if isinstance(c, dict) and is_id(c.get("id"))}
    rows = {image_id: row for row, image_id in enumerate(images.ids)}
    known = _Known(rows, images.sizes, labels, images.left_out, listed - labels.keys())
    table = np.empty((len(raw.annotations), 8))
    count = 0
    seen_ids: set[int] = set()
    for number, annotation in enumerate(raw.annotations):
        values, problems = _read_object(annotation, known, seen_ids)
        for kind, reason in problems:
            findings.add(kind, raw.where, _annotation_name(raw, number, annotation), reason)
        if values is not None:
            table[count] = values
            count += 1
    return table[:count]


def _annotation_name(raw: RawSplit, number: int, annotation: Any) -> str:
    return raw.places[number] if raw.places else name_entry("annotation", number, annotation)


class _Known(NamedTuple):
    """What annotations may refer to."""

    rows: dict[int, int]
    sizes: list[tuple[int, int]]
    labels: dict[int, int]
    images_left_out: set[Any]
    categories_left_out: set[int]


_Values = tuple[int, float, float, float, float, int, bool, float]
_Problems = Sequence[tuple[str, str]]


def _read_object(annotation: Any, known: _Known, seen_ids: set[int]) -> tuple[_Values | None, _Problems]:
    """Return the values of an annotation, or none where it is left out, and what is wrong with it."""
    if not isinstance(annotation, dict):
        return None, [("bad_annotation", f"must be an object, not {shown(annotation)}")]
    problems: list[tuple[str, str]] = []
    annotation_id = annotation.get("id")
    if not is_id(annotation_id):
        problems.append(("annotation_id", f"id is not a whole number but {shown(annotation_id)}"))
    elif annotation_id in seen_ids:
        problems.append(("annotation_id", "the id is listed twice"))
    else:
        seen_ids.add(annotation_id)
    image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
    row = known.rows.get(image_id) if is_id(image_id) else None
    label = known.labels.get(category_id) if is_id(category_id) else None
    if row is None or label is None:
        if row is None and not (is_id(image_id) and image_id in known.images_left_out):
            problems.append(("unknown_image", f"belongs to image {shown(image_id)}, which is not listed"))
        if label is None and not (is_id(category_id) and category_id in known.categories_left_out):
            problems.append(("unknown_category", f"has the category {shown(category_id)}, which is not listed"))
        return None, problems
    bbox = annotation.get("bbox")
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(_is_number(value) for value in bbox)):
        problems.append(("bad_box", f"bbox must be four numbers of pixels (x, y, width, height), not {shown(bbox)}"))
        return None, problems
    x, y, width, height = bbox
    is_usable, found = _check_box(x, y, width, height, known.sizes[row])
    problems += found
    if not is_usable:
        return None, problems
    area, crowd = annotation.get("area"), annotation.get("iscrowd", 0)
    if not _is_number(area, MAX_COORDINATE**2) or area < 0:
        is_missing = area is None
        reason = "has no area" if is_missing else f"area must be a number of pixels, not {shown(area)}"
        problems.append(("missing_area" if is_missing else "bad_area", reason))
        area = width * height
    if isinstance(crowd, str) or crowd not in (0, 1):
        problems.append(("bad_crowd", f"iscrowd must be 0 or 1, not {shown(crowd)}"))
        crowd = 0
    return (row, x, y, width, height, label, bool(crowd), area), problems


def _check_box(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> tuple[bool, _Problems]:
    """Return whether a box can be used, and what is to be said of it."""
    box = f"[{x:g}, {y:g}, {width:g}, {height:g}]"
    if width < 0 or height < 0:
        return False, [("negative_box", f"the box {box} has a negative width or height")]
    image_height, image_width = size
    if x >= image_width or y >= image_height or x + width <= 0 < width or y + height <= 0 < height:
        return False, [("outside_box", f"the box {box} lies outside its image of {image_width}x{image_height}")]
    if not width or not height:
        return True, [("empty_box", f"the box {box} has no area")]
    tolerance = 1.0  # a pixel, for rounding
    if x < -tolerance or y < -tolerance or x + width > image_width + tolerance or y + height > image_height + tolerance:
        return True, [("clipped_box", f"the box {box} leaves its image of {image_width}x{image_height}")]
    return True, ()


def _is_name(value: object) -> bool:
    """Return whether a JSON value is text that can be written: lone surrogates cannot."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(value: object, bound: float = MAX_COORDINATE) -> TypeGuard[float]:
    """Return whether a JSON value is a number of a size that pixels have."""
    return (type(value) is float or type(value) is int) and -bound < value < bound
