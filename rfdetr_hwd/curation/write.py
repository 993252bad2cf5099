"""Write a split as a Roboflow COCO dataset: annotations, and images linked or copied."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rfdetr_hwd.curation.archive import safe_parts
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.listing import COPY_ADVICE

ANNOTATIONS = "_annotations.coco.json"


class Written(NamedTuple):
    """One split that was written.

    Attributes:
        name: Its directory.
        images: Images in it.
        objects: Boxes in it.
        skipped: Numbers of objects that the format does not support, by the reason.
        notes: Further facts to report, with their counts.
    """

    name: str
    images: int
    objects: int
    skipped: dict[str, int]
    notes: dict[str, int]


def write_coco(folder: Path, data: DetectionData, homes: Sequence[Path], first_id: int = 1) -> None:
    """Write images and annotations as one split of a Roboflow COCO dataset.

    Args:
        folder: New directory of the split.
        data: The annotations.
        homes: Directories of the dataset, from `rfdetr_hwd.data.listing.find_homes`: images lie in them.
        first_id: Id of the first annotation. The others follow.

    Raises:
        DatasetError: An image is missing, lies outside the dataset, or has the name of the annotation file or of
            another image.
    """
    # Number the annotations on from those of the splits before.
    truth = data.ground_truth()
    for image, name in zip(truth["images"], data.file_names, strict=True):
        image["file_name"] = str(name)
    for annotation in truth["annotations"]:
        annotation["id"] += first_id - 1
    # Place the images.
    folder.mkdir(parents=True)
    placed: set[str] = set()
    for row, name in enumerate(map(str, data.file_names)):
        if data.shards is not None or name not in placed:  # two entries may share a file
            place_image(data, row, folder, homes)
            placed.add(name)
    # Write the annotations last, when every image is there.
    with (folder / ANNOTATIONS).open("x", encoding="utf-8") as file:
        json.dump(truth, file, ensure_ascii=False, allow_nan=False)


def num_without_objects(data: DetectionData) -> dict[str, int]:
    """Return a note of how many images have no objects, if any."""
    count = int((data.objects_per_image() == 0).sum())
    return {"images without objects": count} if count else {}


def place_image(
    data: DetectionData, row: int, folder: Path, homes: Sequence[Path], new_name: str | None = None
) -> None:
    """Link or copy an image into `folder`, under a new name or its own. An image in a shard is extracted.

    Raises:
        DatasetError: The name leads out of the directory, there is no such file, or another image has the name.
    """
    # Refuse a name that leads elsewhere.
    root, name = data.images, str(data.file_names[row])
    parts = safe_parts(name)
    target = folder / new_name if new_name is not None else folder.joinpath(*parts)
    if name == ANNOTATIONS:
        raise DatasetError(f"the image {name!r} of {root} has the name of the annotation file: rename it")
    # Refuse an image that lies elsewhere.
    if data.shards is None:
        source = root.joinpath(*parts).resolve()
        if not any(source.is_relative_to(home) for home in homes):
            raise DatasetError(f"the image {name!r} is a link to a file outside of {homes[0]}: {COPY_ADVICE}")
        if not source.is_file():
            raise DatasetError(f"the image {name!r} is missing from {root}")
    # Link it, or extract it from its shard.
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if data.shards is None:
            _link(source, target)
            return
        with target.open("xb") as file:
            file.write(data.read_bytes(row))
    except FileExistsError:
        raise DatasetError(f"two images of {data.name} have the name {name!r}: rename one of them") from None


def _link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy if the disk does not allow links."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)
