"""Check every annotation of a split and put what can be used into arrays; findings say what cannot, and why."""

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.data.annotations import DetectionData, Shards
from rfdetr_hwd.data.box_form import suspect_form
from rfdetr_hwd.data.categories import index_categories
from rfdetr_hwd.data.coco.read import RawSplit
from rfdetr_hwd.data.entry import Known, read_box, read_object
from rfdetr_hwd.data.findings import DatasetError, Findings, name_entry, shown
from rfdetr_hwd.data.formats import Exif
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.sizes import Settled, Size, read_annotated, settle_sizes
from rfdetr_hwd.data.values import MAX_NAME, Id, describe_texts, is_name, number_ids, read_id


class _Images(NamedTuple):
    """The images that are used.

    Attributes:
        places: Place in the file of each entry, by the id that annotations refer to.
        names: Paths of their files.
        sizes: (height, width) that their boxes refer to, in pixels.
        skipped: Ids of the images that are listed and not used.
        is_stored: Whether all are annotated as stored; see `rfdetr_hwd.data.sizes.settle_sizes`.
    """

    places: dict[Id, int]
    names: list[str]
    sizes: list[Size]
    skipped: set[Id]
    is_stored: bool


def index_split(
    raw: RawSplit, name: str, files: FileList, findings: Findings, exif: Exif = "auto", every_header: bool = False
) -> DetectionData:
    """Check every entry and put what can be used into arrays.

    A category 0 without annotations that only groups the others (Roboflow's) is no class. Ids that are text and no
    numbers are numbered by their places, after the numbers among the ids.

    Args:
        raw: The entries.
        name: Name of the split.
        files: The image files that are there.
        findings: Receives what is wrong.
        exif: Whether images are turned upright as their EXIF orientation says.
        every_header: Compare the annotated size of every image with its file's, not only of a sample.

    Raises:
        DatasetError: No image or no class is left.
    """
    # Check categories and images
    classes = index_categories(raw, findings)
    images = _index_images(raw, files, findings, exif, every_header)
    if not images.names or not classes:
        what = "images" if not images.names else "classes"
        first = next((str(findings.examples[kind][0]) for kind in findings.kinds("error")), "")
        raise DatasetError(f"{raw.where} lists no {what}" + (f" that can be used: {first}" if first else ""))

    # Check the annotations, one row each
    labels = {key: label for label, category in enumerate(classes) for key in category.keys}
    table = _index_annotations(raw, images, labels, findings)
    rows = table[:, 0].astype(np.int64)
    sizes = np.array(images.sizes, dtype=np.int64).reshape(-1, 2)
    for kind, reason in suspect_form(table[:, 1:5], sizes[rows]):
        findings.add(kind, raw.where, "", reason)

    # Sort the rows by image
    order = np.argsort(rows, kind="stable")
    rows, table = rows[order], table[order]
    image_ids = number_ids(images.places)
    return DetectionData(
        name=name,
        images=files.root,
        class_names=tuple(category.name for category in classes),
        category_ids=tuple(category.id for category in classes),
        image_ids=np.array(image_ids, dtype=np.int64),
        file_names=np.array(images.names, dtype=np.dtypes.StringDType()),
        sizes=sizes,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(image_ids)))]).astype(np.int64),
        boxes_xywh=np.ascontiguousarray(table[:, 1:5]),
        labels=table[:, 5].astype(np.int64),
        crowd=table[:, 6] > 0,
        areas=np.ascontiguousarray(table[:, 7]),
        fingerprint=_fingerprint(raw, image_ids, images, exif),
        shards=_shards(raw, image_ids),
        is_stored=images.is_stored,
    )


def _fingerprint(raw: RawSplit, image_ids: list[int], images: _Images, exif: Exif) -> str:
    """Return a hash of the annotations and of the images that are used, which can change while the former do not.

    It tells, too, which of the images are read as stored, where their sizes do not.
    """
    used = json.dumps([image_ids, images.names, images.sizes])
    as_stored = " as stored" if exif == "ignore" or images.is_stored else ""
    return hashlib.sha256(f"{raw.fingerprint} {used}{as_stored}".encode()).hexdigest()


def _shards(raw: RawSplit, image_ids: list[int]) -> Shards | None:
    if raw.shards is None:
        return None
    paths, members = raw.shards
    return Shards(paths, np.array([members[image_id] for image_id in image_ids], dtype=np.int64).reshape(-1, 3))


def _index_images(raw: RawSplit, files: FileList, findings: Findings, exif: Exif, every_header: bool) -> _Images:
    places, names, sizes, skipped = _list_images(raw, files, findings)
    rows = {key: row for row, key in enumerate(places)}
    if raw.is_measured:
        settled, is_stored = [Settled(size) for size in sizes], False
    else:
        paths = [files.root / name for name in names]
        settled, is_stored = settle_sizes(sizes, paths, lambda wanted: _extents(raw, rows, wanted), exif, every_header)
    images = _Images({}, [], [], skipped, is_stored)
    for (key, number), name, (size, kind, reason) in zip(places.items(), names, settled, strict=True):
        if kind:
            findings.add(kind, files.root / name, name_entry("image", number, raw.images[number]), reason)
        if size is None:
            skipped.add(key)
            continue
        images.places[key] = number
        images.names.append(name)
        images.sizes.append(size)
    return images


def _list_images(
    raw: RawSplit, files: FileList, findings: Findings
) -> tuple[dict[Id, int], list[str], list[Size | None], set[Id]]:
    """Return places, names and annotated sizes of the images that are there, and the ids of the others."""
    places: dict[Id, int] = {}
    names: list[str] = []
    sizes: list[Size | None] = []
    skipped: set[Id] = set()
    seen_names: set[str] = set()
    shared = _shared_ids(raw)
    for number, image in enumerate(raw.images):
        # Skip images that cannot be used, and note their ids for the annotations
        key = read_id(image.get("id")) if isinstance(image, dict) else None
        kind, reason = _image_problem(image, places, files)
        if key in shared:
            kind, reason = "duplicate_image", f"several images have the id: {', '.join(shared[key])}"
        if kind or key is None:
            findings.add(kind, raw.where, name_entry("image", number, image), reason)
            if key is not None:
                skipped.add(key)
            continue
        name = image["file_name"]

        # Report what is unusual about the others
        if name in seen_names:
            reason = f"the file {shown(name)} is listed twice"
            findings.add("duplicate_file", raw.where, name_entry("image", number, image), reason)
        if isinstance(key, str):
            findings.add("text_id", raw.where, name_entry("image", number, image), "the id is text")
        texts = describe_texts(image, ["id"], ["width", "height"])
        if texts:
            findings.add("text_value", raw.where, name_entry("image", number, image), texts)
        seen_names.add(name)
        places[key] = number
        names.append(name)
        sizes.append(read_annotated(image.get("width"), image.get("height"))[0])
    return places, names, sizes, skipped.difference(places)


def _shared_ids(raw: RawSplit) -> dict[Id | None, list[str]]:
    """Return the ids that several files have, and the names of these: a box of such an id may be of any of them.

    In shards each image comes with its own boxes.
    """
    names: dict[Id | None, set[str]] = {}
    for image in raw.images if raw.shards is None else ():
        if isinstance(image, dict) and (key := read_id(image.get("id"))) is not None:
            names.setdefault(key, set()).add(shown(image.get("file_name")))
    return {key: sorted(files) for key, files in names.items() if len(files) > 1}


def _image_problem(image: Any, places: dict[Id, int], files: FileList) -> tuple[str, str]:
    """Return the kind of finding and the reason, or two empty texts."""
    if not isinstance(image, dict):
        return "bad_image", f"must be an object, not {shown(image)}"
    key, name = read_id(image.get("id")), image.get("file_name")
    if key is None:
        return "bad_image", f"id must be a whole number or text, not {shown(image.get('id'))}"
    if not is_name(name):
        return "bad_image", f"file_name must be text of at most {MAX_NAME} characters, not {shown(name)}"
    if key in places:
        return "duplicate_image", "the id is listed twice"
    _, problem = read_annotated(image.get("width"), image.get("height"))
    if problem:
        return "bad_size", problem
    return files.problem(name)


def _extents(raw: RawSplit, rows: dict[Id, int], wanted: set[int]) -> dict[int, tuple[float, float]]:
    """Return the largest y and x that the boxes of some images reach."""
    reach: dict[int, tuple[float, float]] = {}
    for annotation in raw.annotations if wanted else ():
        key = read_id(annotation.get("image_id")) if isinstance(annotation, dict) else None
        row = None if key is None else rows.get(key)
        if row in wanted and row is not None:
            box, _ = read_box(annotation)
            x, y, width, height = box or (0.0, 0.0, 0.0, 0.0)
            bottom, right = reach.get(row, (0.0, 0.0))
            reach[row] = max(bottom, y + height), max(right, x + width)
    return reach


def _index_annotations(
    raw: RawSplit, images: _Images, labels: dict[Id, int], findings: Findings
) -> NDArray[np.float64]:
    """Return (image row, x, y, width, height, label, is crowd, area) of the annotations that are used, shape (M, 8)."""
    listed = {read_id(category.get("id")) for category in raw.categories if isinstance(category, dict)}
    rows = {key: row for row, key in enumerate(images.places)}
    no_classes = {key for key in listed if key is not None and key not in labels}
    known = Known(rows, images.sizes, labels, images.skipped, no_classes)
    table = np.empty((len(raw.annotations), 8))
    count = 0
    seen_ids: set[Id] = set()
    for number, annotation in enumerate(raw.annotations):
        values, problems = read_object(annotation, known, seen_ids)
        for kind, reason in problems:
            findings.add(kind, raw.where, _annotation_name(raw, number, annotation), reason)
        if values is not None:
            table[count] = values
            count += 1
    return table[:count]


def _annotation_name(raw: RawSplit, number: int, annotation: Any) -> str:
    return raw.places[number] if raw.places else name_entry("annotation", number, annotation)
