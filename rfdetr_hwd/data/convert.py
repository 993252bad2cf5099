"""Convert datasets: YOLO to COCO, COCO to YOLO, Pascal VOC to COCO.

`supervision` has loaders and savers for the three formats. They were compared with what is needed here:

- YOLO: its saver writes five decimals, an error of up to 0.003 pixels in 640, 1e-3 of a small box; its loader computes
  in float32, lists one flat folder, and closes gaps in the ids of data.yaml, so that an id after a gap is refused or
  becomes another class. Labels are read here by the reader that training uses, and written with twelve digits.
- COCO: its loader drops image and annotation ids and renumbers categories; crowd regions would become objects in YOLO.
- Pascal VOC: pixels count from 1 and the maximum is inclusive, so a box begins at xmin - 1 and ends at xmax. Up to 0.30
  its loader shifts the maximum too, and loses a pixel; it numbers classes in the order in which it meets them, decodes
  every image, and names no file in its errors. Its parser is defusedxml's, which is used here as well.

The tests hold what is written against its loaders.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import yaml

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.archive import new_folder, safe_parts
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.layout import Layout
from rfdetr_hwd.data.source import read_split
from rfdetr_hwd.data.voc import read_voc
from rfdetr_hwd.data.write import place_image, write_coco
from rfdetr_hwd.data.yolo_label_files import label_file_of

_FOLDERS = {"train": "train", "val": "valid", "test": "test"}
"""Folder of each role in what is written, as Roboflow names them."""


class Converted(NamedTuple):
    """One split that was written.

    Attributes:
        name: Its folder.
        images: Images in it.
        objects: Boxes in it.
        notes: What could not be taken over or is worth a look, with how often.
    """

    name: str
    images: int
    objects: int
    notes: dict[str, int]


def yolo_to_coco(layout: Layout, out: Path) -> list[Converted]:
    """Write a YOLO dataset (data.yaml, text labels; polygons become boxes) as a Roboflow COCO dataset.

    Classes keep their order and get the category ids 1 to N. An image without labels is kept, without objects.

    Args:
        layout: The dataset.
        out: Folder that does not exist yet. It appears when everything is written.

    Raises:
        DatasetError: The dataset has errors, which are named, or the folder cannot be written.
    """
    with new_folder(out) as folder:
        done = []
        for role, data in _read(layout):
            data = replace(_rooted(data), category_ids=tuple(range(1, len(data.class_names) + 1)))
            write_coco(folder / _FOLDERS[role], data)
            done.append(Converted(_FOLDERS[role], len(data), len(data.labels), _notes(_without_objects(data))))
        return done


def coco_to_yolo(layout: Layout, out: Path) -> list[Converted]:
    """Write a COCO or Roboflow COCO dataset as a YOLO dataset: data.yaml, SPLIT/images, SPLIT/labels.

    YOLO knows classes by their place in data.yaml, and boxes. Crowd regions are left out, since they would become
    objects; so are boxes without area in the image. Boxes are clipped to the image. Ids, areas and the like are lost.

    Args:
        layout: The dataset.
        out: Folder that does not exist yet. It appears when everything is written.

    Raises:
        DatasetError: The dataset has errors, which are named; splits differ in their classes; two images would share a
            label file; or the folder cannot be written.
    """
    with new_folder(out) as folder:
        done, names = [], None
        for role, data in _read(layout):
            if names not in (None, data.class_names):
                raise DatasetError(f"the classes of {data.name} are {data.class_names}, those of train are {names}")
            names = data.class_names
            done.append(_write_yolo(folder / _FOLDERS[role], data))
        places: dict[str, Any] = {role: f"{name}/images" for role, name in _FOLDERS.items() if (folder / name).is_dir()}
        content = {**places, "nc": len(names or ()), "names": list(names or ())}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (folder / "data.yaml").write_text(text, encoding="utf-8")
        return done


def voc_to_coco(source: Path, out: Path) -> list[Converted]:
    """Write a Pascal VOC dataset as a Roboflow COCO dataset.

    Two layouts are known: the devkit's (Annotations, JPEGImages, lists in ImageSets/Main), and one folder a split
    (train, valid or val, test) with XML files beside the images; one such folder alone is `train`. Classes are in
    alphabetical order, with the category ids 1 to N. An image without XML file is kept, without objects.

    VOC's pixels count from 1. Some tools count from 0 and do not say so; one minimum below 1 gives them away, and the
    whole dataset is then read as corners that count from 0, and the notes say so. `difficult` objects are kept.

    Args:
        source: Folder of the dataset.
        out: Folder that does not exist yet. It appears when everything is written.

    Raises:
        DatasetError: There is no such layout; a file is missing, malformed or lies outside; XML has a document type or
            entities; or the folder cannot be written.
    """
    with new_folder(out) as target:
        done = []
        for role, (data, notes) in read_voc(source).items():
            write_coco(target / _FOLDERS[role], data)
            counted = _notes(_without_objects(data), notes)
            done.append(Converted(_FOLDERS[role], len(data), len(data.labels), counted))
        return done


def _read(layout: Layout) -> Iterator[tuple[str, DetectionData]]:
    """Yield the splits that are used.

    Raises:
        DatasetError: There are none, or one of them cannot be read or has errors.
    """
    splits = list(layout.splits())
    if not splits:
        raise DatasetError(f"{layout.root} has no split whose use is known. {' '.join(layout.remarks())}")
    for split in splits:
        yield str(split.role), read_split(split)


def _rooted(data: DetectionData) -> DetectionData:
    """Return the same images named from the deepest folder that holds them all."""
    paths = [PurePosixPath(str(name)) for name in data.file_names]
    shared = paths[0].parent
    while not all(path.is_relative_to(shared) for path in paths):
        shared = shared.parent
    names = np.array([path.relative_to(shared).as_posix() for path in paths])
    return replace(data, images=data.images / shared, file_names=names)


def _write_yolo(folder: Path, data: DetectionData) -> Converted:
    taken: dict[Path, str] = {}
    notes: Counter[str] = Counter()
    num_objects = 0
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for row, name in enumerate(map(str, data.file_names)):
        place_image(data.images, name, folder / "images")
        label_file = folder / label_file_of("/".join(["images", *safe_parts(name)]))
        if label_file in taken:
            raise DatasetError(f"the images {taken[label_file]!r} and {name!r} of {data.name} would share a label file")
        taken[label_file] = name
        lines = list(_yolo_lines(data, row, notes))
        num_objects += len(lines)
        label_file.parent.mkdir(parents=True, exist_ok=True)
        label_file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Converted(folder.name, len(data), num_objects, _notes(notes))


def _yolo_lines(data: DetectionData, row: int, notes: Counter[str]) -> Iterator[str]:
    """Yield `class cx cy w h`, shares of the image, for the objects of an image."""
    height, width = data.sizes[row].tolist()
    objects = slice(data.offsets[row], data.offsets[row + 1])
    for (x, y, w, h), label, is_crowd in zip(
        data.boxes_xywh[objects].tolist(), data.labels[objects].tolist(), data.crowd[objects].tolist(), strict=True
    ):
        x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
        if is_crowd:
            notes["crowd regions left out"] += 1
        elif x1 <= x0 or y1 <= y0:
            notes["boxes without area in the image left out"] += 1
        else:
            notes["boxes clipped to the image"] += (x0, y0) != (x, y) or x1 < x + w or y1 < y + h
            shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            yield " ".join([str(label), *(f"{share:.12g}" for share in shares)])


def _without_objects(data: DetectionData) -> Counter[str]:
    return Counter({"images without objects": int((np.diff(data.offsets) == 0).sum())})


def _notes(*counters: Counter[str]) -> dict[str, int]:
    return {text: count for counter in counters for text, count in counter.items() if count}
