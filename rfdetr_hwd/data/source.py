"""Find and read a detection dataset: COCO and Roboflow layouts.

Annotations are kept in a few flat arrays, so that loader processes share them without copies.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.errors import UserError

Role = Literal["train", "val", "test"]

MAX_COORDINATE = 1e7
"""Bound on coordinates and, squared, on areas, in pixels."""

_DEFAULT_SPLITS: dict[str, dict[Role, str]] = {
    "coco": {"train": "train2017", "val": "val2017", "test": "test2017"},
    "roboflow": {"train": "train", "val": "valid", "test": "test"},
}


class DatasetError(UserError):
    """A dataset that cannot be found, read or used."""


class Split(NamedTuple):
    """Where one split of a dataset lies."""

    name: str
    images: Path
    annotations: Path


@dataclass(frozen=True)
class Layout:
    """A dataset folder whose format is known.

    Attributes:
        root: Folder of the dataset.
        format: `coco` (annotations/instances_SPLIT.json beside SPLIT/) or `roboflow` (SPLIT/_annotations.coco.json).
    """

    root: Path
    format: Literal["coco", "roboflow"]

    def split(self, role: Role, name: str | None = None) -> Split:
        """Return the paths of a split; `name` defaults to the format's own name for the role."""
        name = name or _DEFAULT_SPLITS[self.format][role]
        if self.format == "roboflow":
            return Split(name, self.root / name, self.root / name / "_annotations.coco.json")
        return Split(name, self.root / name, self.root / "annotations" / f"instances_{name}.json")


@dataclass(frozen=True)
class DetectionData:
    """The annotations of one split, one row an image; see `read_split`.

    Attributes:
        name: Name of the split.
        images: Folder of the images.
        class_names: Class names in label order.
        category_ids: The dataset's own category id of each label.
        image_ids: Shape (N,) int64.
        file_names: Paths below `images`, N of them.
        sizes: Shape (N, 2) int64, (height, width) in pixels as annotated.
        offsets: Shape (N + 1,) int64; the objects of image i are rows `offsets[i]:offsets[i + 1]`.
        boxes_xywh: Shape (M, 4) float64, in pixels, as annotated.
        labels: Shape (M,) int64.
        crowd: Shape (M,) bool; crowd regions are ignored in training and in the evaluation's sense.
        areas: Shape (M,) float64, in pixels.
        fingerprint: sha256 of the annotation file.
    """

    name: str
    images: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: NDArray[np.int64]
    file_names: NDArray[np.str_]
    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.image_ids)

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return self.images / str(self.file_names[index])

    def objects(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the boxes (n, 4) xyxy in pixels and labels (n,) to learn from.

        Crowd regions and boxes without area are left out, boxes are clipped to the image.
        """
        rows = slice(self.offsets[index], self.offsets[index + 1])
        height, width = self.sizes[index]
        top_left, extent = self.boxes_xywh[rows, :2], self.boxes_xywh[rows, 2:]
        corners = np.concatenate([top_left, top_left + extent], axis=1)
        boxes = np.clip(corners, 0, [width, height, width, height]).astype(np.float32)
        usable = ~self.crowd[rows] & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return boxes[usable], self.labels[rows][usable]

    def category_ids_of(self, class_names: Sequence[str]) -> tuple[int, ...]:
        """Return the category id of each class of a model, found by name.

        Raises:
            DatasetError: The split does not have the same classes.
        """
        ids = dict(zip(self.class_names, self.category_ids, strict=True))
        unknown = [name for name in class_names if name not in ids]
        extra = [name for name in self.class_names if name not in class_names]
        if unknown or extra:
            raise DatasetError(
                f"the classes of {self.images} are not the model's: only the model has {unknown or 'none'}, only the "
                f"dataset has {extra or 'none'}"
            )
        return tuple(ids[name] for name in class_names)

    def ground_truth(self) -> dict[str, Any]:
        """Return the split as a COCO dictionary with the dataset's own image and category ids.

        Annotations are numbered from 1: the COCO evaluation reads a match with annotation 0 as no match, and Roboflow
        numbers from 0.
        """
        image_rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        annotations = [
            {
                "id": i + 1,
                "image_id": int(self.image_ids[image_rows[i]]),
                "category_id": self.category_ids[self.labels[i]],
                "bbox": box_xywh,
                "area": float(self.areas[i]),
                "iscrowd": int(self.crowd[i]),
            }
            for i, box_xywh in enumerate(self.boxes_xywh.tolist())
        ]
        images = [
            {"id": int(image_id), "height": int(height), "width": int(width)}
            for image_id, (height, width) in zip(self.image_ids, self.sizes, strict=True)
        ]
        categories = [{"id": i, "name": name} for i, name in zip(self.category_ids, self.class_names, strict=True)]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def find_layout(root: str | Path, format: Literal["auto", "coco", "roboflow"] = "auto") -> Layout:
    """Recognise the layout of a dataset folder.

    Args:
        root: The folder.
        format: Its format, or `auto`.

    Raises:
        DatasetError: The folder is missing or has no known layout; the message says what was looked for.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"data.root: there is no folder {root}")
    if format != "auto":
        return Layout(root, format)
    if any(root.glob("*/_annotations.coco.json")):
        return Layout(root, "roboflow")
    if any(root.glob("annotations/instances_*.json")):
        return Layout(root, "coco")
    raise DatasetError(
        f"{root} has no layout that is known: looked for SPLIT/_annotations.coco.json (Roboflow COCO export) and "
        "annotations/instances_SPLIT.json (COCO). Set data.root to the folder that holds the splits"
    )


def read_split(split: Split) -> DetectionData:
    """Read the annotations of a split.

    A category 0 without annotations that only groups the others (Roboflow's) is no class.

    Args:
        split: Where it lies.

    Raises:
        DatasetError: The file is missing, not COCO JSON, or has no images or no classes; or an entry is wrong, and the
            message names it.
    """
    content, fingerprint = _read_json(split.annotations)
    where = str(split.annotations)
    images, categories = _entries(content, "images", where), _entries(content, "categories", where)
    annotations = _entries(content, "annotations", where)
    if not images:
        raise DatasetError(f"{where} lists no images")
    try:
        used = {annotation.get("category_id") for annotation in annotations}
        classes = sorted((int(c["id"]), str(c["name"])) for c in categories if not _is_grouping(c, categories, used))
        names = [name for _, name in classes]
        if not classes or len(set(names)) < len(names):
            raise DatasetError(f"{where} lists no classes" if not classes else f"{where} lists a class twice: {names}")
        image_ids = np.array([_image_id(image, where) for image in images])
        file_names = np.array([str(image["file_name"]) for image in images])
        sizes = np.array([(int(image["height"]), int(image["width"])) for image in images])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{where}: an image, annotation or category is malformed: {error!r}") from None
    rows = {int(image_id): row for row, image_id in enumerate(image_ids)}
    if len(rows) < len(images):
        twice = next(i for i in image_ids.tolist() if np.count_nonzero(image_ids == i) > 1)
        raise DatasetError(f"{where} lists image id {twice} twice")
    if sizes.min() < 1:
        raise DatasetError(f"{where}: image {image_ids[sizes.min(axis=1).argmin()]} has no width or height")
    labels = {category_id: label for label, (category_id, _) in enumerate(classes)}
    objects = sorted((_object(a, rows, labels, where) for a in annotations), key=lambda item: item[0])
    counts = np.bincount([item[0] for item in objects], minlength=len(images)) if objects else np.zeros(len(images))
    return DetectionData(
        name=split.name,
        images=split.images,
        class_names=tuple(name for _, name in classes),
        category_ids=tuple(category_id for category_id, _ in classes),
        image_ids=image_ids,
        file_names=file_names,
        sizes=sizes,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes_xywh=np.array([item[1] for item in objects], dtype=np.float64).reshape(-1, 4),
        labels=np.array([item[2] for item in objects], dtype=np.int64),
        crowd=np.array([item[3] for item in objects], dtype=bool),
        areas=np.array([item[4] for item in objects], dtype=np.float64),
        fingerprint=fingerprint,
    )


def check_images_exist(data: DetectionData) -> None:
    """Raise an error that names missing image files and paths that leave the image folder.

    Raises:
        DatasetError: An image file is not there, or lies outside.
    """
    root = data.images.resolve()
    for index in range(len(data)):
        path, who = data.path(index), f"image {data.image_ids[index]} of {data.name}"
        try:
            is_inside, is_there = path.resolve().is_relative_to(root), path.is_file()
        except (OSError, ValueError) as error:
            raise DatasetError(f"{who} has a file name that is no path: {error}") from None
        if not is_inside:
            raise DatasetError(f"{who} lies outside {data.images}: {path}")
        if not is_there:
            raise DatasetError(f"{who} is missing: {path}")


def _read_json(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read the annotations {path}: {error.strerror}") from None
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path} is not a COCO annotation file: it holds a {type(content).__name__}, not an object")
    return content, hashlib.sha256(text).hexdigest()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _entries(content: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DatasetError(f"{where} is not a COCO annotation file: {key!r} is missing or not a list of objects")
    return entries


def _image_id(image: dict[str, Any], where: str) -> int:
    if type(image["id"]) is not int or abs(image["id"]) >= 2**63:
        raise DatasetError(f"{where}: an image id must be a whole number, not {str(image['id'])[:80]!r}")
    return int(image["id"])


def _is_grouping(category: dict[str, Any], categories: list[dict[str, Any]], used: set[Any]) -> bool:
    others = {other.get("supercategory") for other in categories if other is not category}
    return category["id"] == 0 and 0 not in used and category["name"] in others


def _object(
    annotation: dict[str, Any], rows: dict[int, int], labels: dict[int, int], where: str
) -> tuple[int, tuple[float, float, float, float], int, bool, float]:
    """Return (image row, box xywh, label, is crowd, area) of one annotation."""
    who = f"{where}: annotation {annotation.get('id')}"
    try:
        bbox, image_id, category_id = annotation["bbox"], annotation["image_id"], annotation["category_id"]
    except KeyError as error:
        raise DatasetError(f"{who} has no {error.args[0]!r}") from None
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(map(_is_number, bbox))):
        raise DatasetError(f"{who}: bbox must be four numbers (x, y, width, height), not {str(bbox)[:80]}")
    x, y, width, height = (float(value) for value in bbox)
    area, crowd = annotation.get("area", width * height), annotation.get("iscrowd", 0)
    if not _is_number(area, MAX_COORDINATE**2):
        raise DatasetError(f"{who}: area must be a number, not {str(area)[:80]}")
    if crowd not in (0, 1) or isinstance(crowd, str):
        raise DatasetError(f"{who}: iscrowd must be 0 or 1, not {crowd!r}")
    if not isinstance(image_id, int) or image_id not in rows:
        raise DatasetError(f"{who} belongs to image {image_id!r}, which is not listed")
    if not isinstance(category_id, int) or category_id not in labels:
        raise DatasetError(f"{who} has the category {category_id!r}, which is not listed")
    return rows[image_id], (x, y, width, height), labels[category_id], bool(crowd), float(area)


def _is_number(value: object, bound: float = MAX_COORDINATE) -> bool:
    """Return whether a JSON value is a number of a size that pixels have; native code crashes on huge ones."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < bound
