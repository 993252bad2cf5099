"""Convert datasets of every supported layout to COCO or YOLO. Every entry that is skipped is reported.

`supervision` has loaders and savers for COCO, YOLO and Pascal VOC. They do not meet the requirements of this module:

- YOLO: its saver writes five decimals, an error of up to 0.003 pixels in 640, 1e-3 of a small box; its loader computes
  in float32, lists one flat directory, and closes gaps in the ids of data.yaml, so that an id after a gap is refused or
  becomes another class. This module reads labels with the reader of the training, and writes twelve digits.
- COCO: its loader drops image and annotation ids and renumbers categories; crowd regions would become objects in YOLO.
- Pascal VOC: pixels count from 1 and the maximum is inclusive, so a box begins at xmin - 1 and ends at xmax. Up to 0.30
  its loader shifts the maximum too, and loses a pixel; it numbers classes in the order in which it meets them, decodes
  every image, and names no file in its errors. Its parser is defusedxml's, as in this package.

The tests compare the written datasets with its loaders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from rfdetr_hwd.curation.archive import new_folder, refuse_inside
from rfdetr_hwd.curation.write import Written, num_without_objects, write_coco
from rfdetr_hwd.curation.yolo_write import unify_classes, write_description, write_yolo
from rfdetr_hwd.data.account import Account, unlisted_images
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import SKIPPED_ENTRIES, DatasetError, Findings, check_allowed
from rfdetr_hwd.data.formats import Target
from rfdetr_hwd.data.images import USUAL, ReadOptions
from rfdetr_hwd.data.layout import Layout
from rfdetr_hwd.data.listing import find_homes
from rfdetr_hwd.data.read import scan_counted
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.data.upright import turn_upright

"""Formats that can be written: Roboflow's COCO layout, and YOLO's."""

_TURNED = "images with an EXIF orientation: boxes refer to the upright image, so readers must apply it"
_CHANGED = "images annotated as stored: their boxes were rotated upright"

FOLDERS: Mapping[Role, str] = {"train": "train", "val": "valid", "test": "test"}
"""Directory of each role in written datasets, as Roboflow names them."""


class Conversion(NamedTuple):
    """A dataset that was written.

    Attributes:
        accounts: Listed, used and skipped entries of each split.
        written: Written entries of each split.
        findings: The findings in all of them.
        unlisted: Image files that no split lists.
    """

    accounts: list[Account]
    written: list[Written]
    findings: Findings
    unlisted: list[Path]


def convert(
    layout: Layout, to: Target, out: Path, allow: Sequence[str] = (), options: ReadOptions = USUAL
) -> Conversion:
    """Write all splits of a dataset in another format, or in the usual layout of the same.

    Single invalid entries are skipped and become findings. Errors that affect the rest of the dataset abort the
    conversion before anything is written, unless they are allowed.

    Args:
        layout: The dataset.
        to: The format.
        out: Directory that does not exist yet. It appears when everything is written.
        allow: Kinds of error to accept.
        options: How its images are read. Written boxes refer to the upright images.

    Raises:
        DatasetError: The dataset has errors, there is nothing to convert, or `out` cannot be written.
    """
    # Read all splits
    check_allowed(allow, "--allow")
    refuse_inside(out, layout.root)
    findings = Findings()
    read = [(split.role, *scan_counted(split, findings, options, every_header=True)) for split in layout.splits()]
    if not read:
        raise DatasetError(
            f"{layout.root} has no split that is recognised as train, val or test. {' '.join(layout.remarks())}"
        )

    # Refuse a dataset with errors, or without objects
    has_objects = any(len(data.labels) for _, data, _ in read)
    findings.refuse_errors(allow, by_option=True, later=SKIPPED_ENTRIES if has_objects else ())
    if not has_objects:
        num_images = sum(len(data) for _, data, _ in read)
        raise DatasetError(f"{layout.root} has {num_images} images without any object: there is nothing to convert")

    # Write all splits, or nothing
    with new_folder(out) as folder:
        written = write_dataset(
            folder, {FOLDERS[role]: rooted(data) for role, data, _ in read if role}, to, layout.root
        )
    accounts = [account for _, _, account in read]
    return Conversion(accounts, written, findings, list(unlisted_images(layout.root, [part[1:] for part in read])))


def write_dataset(folder: Path, parts: Mapping[str, DetectionData], to: Target, home: Path) -> list[Written]:
    """Write splits as the directories of a dataset.

    Image files are unchanged, with their EXIF orientations, and boxes refer to the upright images.

    Args:
        folder: Directory of the dataset.
        parts: The splits, by the names of their directories, which are those of `FOLDERS`.
        to: The format.
        home: Directory of the dataset that they come from.

    Raises:
        DatasetError: A split has classes that the first lacks, which YOLO does not support. Two images would share a
            file. An image is missing or outside the dataset. Entries were lost.
    """
    # Give the splits one class list, where the format has only one.
    is_yolo = to == "yolo"
    parts = unify_classes(parts) if is_yolo else parts
    written: list[Written] = []
    homes = find_homes(home)
    for name, part in parts.items():
        # Write the split, with boxes of the upright images.
        data, num_turned, num_changed = turn_upright(part)
        first_id = 1 + sum(result.objects for result in written)  # no two annotations of a dataset share one
        result = (
            write_yolo(folder / name, data, homes) if is_yolo else _write_coco(folder / name, data, homes, first_id)
        )
        # Account for every image and object.
        lost = len(data) - result.images, len(data.labels) - result.objects - sum(result.skipped.values())
        if any(lost):
            raise DatasetError(
                f"{lost[0]} images and {lost[1]} objects of {data.name} were lost. This is a bug: report it"
            )
        notes = {_TURNED: num_turned, _CHANGED: num_changed}
        written.append(result._replace(notes=result.notes | {note: count for note, count in notes.items() if count}))
    if is_yolo:
        places: dict[str, str] = {role: f"{name}/images" for role, name in FOLDERS.items() if name in parts}
        write_description(folder, places, next(iter(parts.values())).class_names)
    return written


def _write_coco(folder: Path, data: DetectionData, homes: Sequence[Path], first_id: int) -> Written:
    """Write a split as Roboflow's COCO. Class ids of YOLO, which start at 0, become 1 to N. Others stay."""
    if 0 in data.category_ids:
        data = replace(data, category_ids=tuple(range(1, len(data.class_names) + 1)))
    write_coco(folder, data, homes, first_id)
    return Written(folder.name, len(data), len(data.labels), {}, num_without_objects(data))


def rooted(data: DetectionData) -> DetectionData:
    """Return the same images, named relative to their deepest common directory."""
    paths = [PurePosixPath(str(name)) for name in data.file_names]
    shared = paths[0].parent
    while not all(path.is_relative_to(shared) for path in paths):
        shared = shared.parent
    names = np.array([path.relative_to(shared).as_posix() for path in paths])
    return replace(data, images=data.images / shared, file_names=names)
