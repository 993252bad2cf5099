"""Convert datasets: every layout that is read, to COCO or YOLO. Nothing is lost without a word.

`supervision` has loaders and savers for COCO, YOLO and Pascal VOC. They were compared with what is needed here:

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import yaml

from rfdetr_hwd.data.account import Account, unlisted_images
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.archive import new_folder, safe_parts
from rfdetr_hwd.data.findings import DatasetError, Findings, check_allowed
from rfdetr_hwd.data.layout import Layout
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.data.source import scan_counted
from rfdetr_hwd.data.write import place_image, write_coco
from rfdetr_hwd.data.yolo_label_files import label_file_of

Target = Literal["coco", "yolo"]
TARGETS: tuple[Target, ...] = get_args(Target)
"""What can be written: Roboflow's COCO layout, and YOLO's."""

FOLDERS: Mapping[Role, str] = {"train": "train", "val": "valid", "test": "test"}
"""Directory of each role in what is written, as Roboflow names them."""


class Written(NamedTuple):
    """One split that was written.

    Attributes:
        name: Its directory.
        images: Images in it.
        objects: Boxes in it.
        skipped: Objects that the format cannot hold, by the reason.
        notes: What is worth a look, with how often.
    """

    name: str
    images: int
    objects: int
    skipped: dict[str, int]
    notes: dict[str, int]


class Conversion(NamedTuple):
    """A dataset that was written.

    Attributes:
        accounts: What each split had, and what of it could be used.
        written: What was written of each.
        findings: What was found in all of them.
        unlisted: Image files that no split lists.
    """

    accounts: list[Account]
    written: list[Written]
    findings: Findings
    unlisted: list[Path]


def convert(layout: Layout, to: Target, out: Path, allow: Sequence[str] = ()) -> Conversion:
    """Write all splits of a dataset in another format, or in the usual layout of the same.

    Errors in the annotations end it before anything is written, as they end a training. Those that are allowed do there
    what `rfdetr_hwd.data.findings.KINDS` says.

    Args:
        layout: The dataset.
        to: The format.
        out: Directory that does not exist yet. It appears when everything is written.
        allow: Kinds of error to accept.

    Raises:
        DatasetError: The dataset has errors, which are named; there is nothing to convert; or `out` cannot be written.
    """
    check_allowed(allow, "--allow")
    findings = Findings()
    read = [(split.role, *scan_counted(split, findings, every_header=True)) for split in layout.splits()]
    if not read:
        raise DatasetError(f"{layout.root} has no split whose use is known. {' '.join(layout.remarks())}")
    findings.refuse_errors(allow, by_option=True)
    if not any(len(data.labels) for _, data, _ in read):
        num_images = sum(len(data) for _, data, _ in read)
        raise DatasetError(f"{layout.root} has {num_images} images and no object in them: there is nothing to convert")
    with new_folder(out) as folder:
        written = write_dataset(
            folder, {FOLDERS[role]: rooted(data) for role, data, _ in read if role}, to, layout.root
        )
    accounts = [account for _, _, account in read]
    return Conversion(accounts, written, findings, list(unlisted_images(layout.root, [part[1:] for part in read])))


def write_dataset(folder: Path, parts: Mapping[str, DetectionData], to: Target, home: Path) -> list[Written]:
    """Write splits as the directories of a dataset.

    Args:
        folder: Directory of the dataset.
        parts: The splits, by the names of their directories, which are those of `FOLDERS`.
        to: The format.
        home: Directory of the dataset that they come from; links to images may lead anywhere in it.

    Raises:
        DatasetError: Splits differ in their classes, which YOLO cannot hold; two images would share a file; an image is
            missing or lies outside; or what was written is not what there was.
    """
    written: list[Written] = []
    for name, data in parts.items():
        first_id = 1 + sum(result.objects for result in written)  # no two annotations of a dataset share one
        is_yolo = to == "yolo"
        result = _write_yolo(folder / name, data, home) if is_yolo else _write_coco(folder / name, data, home, first_id)
        lost = len(data) - result.images, len(data.labels) - result.objects - sum(result.skipped.values())
        if any(lost):
            raise DatasetError(f"{lost[0]} images and {lost[1]} objects of {data.name} were not written, for no reason")
        written.append(result)
    if to == "yolo":
        _write_data_yaml(folder, parts)
    return written


def _write_coco(folder: Path, data: DetectionData, home: Path, first_id: int) -> Written:
    """Write a split as Roboflow's COCO. Classes of YOLO, which count from 0, get the ids 1 to N; others keep theirs."""
    if 0 in data.category_ids:
        data = replace(data, category_ids=tuple(range(1, len(data.class_names) + 1)))
    write_coco(folder, data, home, first_id)
    return Written(folder.name, len(data), len(data.labels), {}, _without_objects(data))


def _write_data_yaml(folder: Path, parts: Mapping[str, DetectionData]) -> None:
    """Write the description of a YOLO dataset.

    Raises:
        DatasetError: The splits differ in their classes.
    """
    first, *others = parts.values()
    for data in others:
        if data.class_names != first.class_names:
            raise DatasetError(
                f"YOLO has one list of classes: those of {data.name} are {data.class_names}, those of {first.name} are "
                f"{first.class_names}"
            )
    places: dict[str, Any] = {role: f"{name}/images" for role, name in FOLDERS.items() if name in parts}
    content = {**places, "nc": len(first.class_names), "names": list(first.class_names)}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def rooted(data: DetectionData) -> DetectionData:
    """Return the same images named from the deepest folder that holds them all."""
    paths = [PurePosixPath(str(name)) for name in data.file_names]
    shared = paths[0].parent
    while not all(path.is_relative_to(shared) for path in paths):
        shared = shared.parent
    names = np.array([path.relative_to(shared).as_posix() for path in paths])
    return replace(data, images=data.images / shared, file_names=names)


def _write_yolo(folder: Path, data: DetectionData, home: Path) -> Written:
    """Write a split as YOLO: SPLIT/images, SPLIT/labels.

    YOLO knows classes by their place in data.yaml, and boxes. Crowd regions are skipped, since they would become
    objects; so are boxes without area in the image. Boxes are clipped to the image. Ids, areas and the like are lost.
    """
    taken: dict[Path, str] = {}
    skipped: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    num_objects = 0
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for row, name in enumerate(map(str, data.file_names)):
        place_image(data, row, folder / "images", home)
        label_file = folder / label_file_of("/".join(["images", *safe_parts(name)]))
        if label_file in taken:
            raise DatasetError(f"the images {taken[label_file]!r} and {name!r} of {data.name} would share a label file")
        taken[label_file] = name
        lines = list(_yolo_lines(data, row, skipped, notes))
        num_objects += len(lines)
        label_file.parent.mkdir(parents=True, exist_ok=True)
        label_file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Written(folder.name, len(data), num_objects, dict(+skipped), dict(+notes) | _without_objects(data))


def _yolo_lines(data: DetectionData, row: int, skipped: Counter[str], notes: Counter[str]) -> Iterator[str]:
    """Yield `class cx cy w h`, shares of the image, for the objects of an image."""
    height, width = data.sizes[row].tolist()
    objects = slice(data.offsets[row], data.offsets[row + 1])
    for (x, y, w, h), label, is_crowd in zip(
        data.boxes_xywh[objects].tolist(), data.labels[objects].tolist(), data.crowd[objects].tolist(), strict=True
    ):
        x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
        if is_crowd:
            skipped["crowd regions skipped"] += 1
        elif x1 <= x0 or y1 <= y0:
            skipped["boxes without area in the image skipped"] += 1
        else:
            notes["boxes clipped to the image"] += (x0, y0) != (x, y) or x1 < x + w or y1 < y + h
            shares = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            yield " ".join([str(label), *(f"{share:.12g}" for share in shares)])


def _without_objects(data: DetectionData) -> dict[str, int]:
    count = int((data.objects_per_image() == 0).sum())
    return {"images without objects": count} if count else {}
