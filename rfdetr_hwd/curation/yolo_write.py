"""Write a YOLO dataset that Ultralytics, rfdetr and supervision read alike: data.yaml, SPLIT/images, SPLIT/labels."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from rfdetr_hwd.curation.write import Written, num_without_objects, place_image
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.images import read_format
from rfdetr_hwd.data.yolo.names import flat_names

_MIN_SIDE = 10
"""Ultralytics ignores images with a smaller width or height."""


def unify_classes(parts: Mapping[str, DetectionData]) -> dict[str, DetectionData]:
    """Return splits whose labels refer to the classes of the first, matched by name: YOLO has one class list.

    Raises:
        DatasetError: A split has a class that the first lacks.
    """
    first = next(iter(parts.values()))
    labels = {name: label for label, name in enumerate(first.class_names)}
    unified = {}
    for part, data in parts.items():
        missing = [name for name in data.class_names if name not in labels]
        if missing:
            raise DatasetError(
                f"YOLO has one class list, but {data.name} has {', '.join(map(repr, missing))}, which {first.name} "
                f"lacks. The classes of {first.name}: {', '.join(map(repr, first.class_names))}"
            )
        own = np.array([labels[name] for name in data.class_names], dtype=np.int64)
        unified[part] = replace(
            data, class_names=first.class_names, category_ids=first.category_ids, labels=own[data.labels]
        )
    return unified


def write_description(folder: Path, places: Mapping[str, str], class_names: tuple[str, ...]) -> None:
    """Write data.yaml.

    Args:
        folder: Directory of the dataset.
        places: The image directories below `folder`, by `train`, `val` and `test`.
        class_names: The classes in label order.
    """
    content = {**places, "nc": len(class_names), "names": list(class_names)}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def write_yolo(folder: Path, data: DetectionData, homes: Sequence[Path]) -> Written:
    """Write a split.

    A YOLO label is a class number and a box. Crowd regions are skipped, because they would become objects. Boxes
    without area in the image are also skipped. Boxes are clipped to the image. Ids and areas are lost, and images get
    the names of `rfdetr_hwd.data.yolo.names`.

    Args:
        folder: New directory of the split.
        data: The split.
        homes: Directories of the dataset, from `rfdetr_hwd.data.listing.find_homes`: images lie in them.

    Raises:
        DatasetError: An image is missing, or lies outside the dataset.
        ImageError: An image whose suffix says nothing cannot be read.
    """
    skipped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    num_objects = 0
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    # Write an image and a label file for each entry.
    old = list(map(str, data.file_names))
    new = flat_names(old, lambda row: read_format(data.path(row), io.BytesIO(data.read_bytes(row))))
    for row, name in enumerate(new):
        place_image(data, row, folder / "images", homes, name)
        lines = list(_lines(data, row, skipped, notes))
        num_objects += len(lines)
        label_file = folder / "labels" / PurePosixPath(name).with_suffix(".txt")
        label_file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    # Note what the format changes.
    notes["images renamed: YOLO needs one directory, unique stems and common suffixes"] = sum(
        before != after for before, after in zip(old, new, strict=True)
    )
    notes[f"images with width or height under {_MIN_SIDE} pixels, which Ultralytics ignores"] = int(
        (data.sizes < _MIN_SIDE).any(axis=1).sum()
    )
    return Written(folder.name, len(data), num_objects, dict(+skipped), dict(+notes) | num_without_objects(data))


def _lines(data: DetectionData, row: int, skipped: Counter[str], notes: Counter[str]) -> Iterator[str]:
    """Yield `class cx cy w h`, fractions of the image, for the objects of an image."""
    height, width = data.sizes[row].tolist()
    objects = slice(data.offsets[row], data.offsets[row + 1])
    for (x, y, w, h), label, is_crowd in zip(
        data.boxes_xywh[objects].tolist(), data.labels[objects].tolist(), data.crowd[objects].tolist(), strict=True
    ):
        # Clip the box to the image.
        x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
        if is_crowd:
            skipped["crowd regions skipped"] += 1
        elif x1 <= x0 or y1 <= y0:
            skipped["boxes without area in the image skipped"] += 1
        else:
            notes["boxes clipped to the image"] += (x0, y0) != (x, y) or x1 < x + w or y1 < y + h
            fractions = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            yield " ".join([str(label), *(f"{fraction:.12g}" for fraction in fractions)])
