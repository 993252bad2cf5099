"""Write a split as a Roboflow COCO dataset: annotations, and images linked or copied."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.archive import safe_parts
from rfdetr_hwd.data.findings import DatasetError

ANNOTATIONS = "_annotations.coco.json"


def write_coco(folder: Path, data: DetectionData, rows: Iterable[int] | None = None) -> None:
    """Write images and annotations as one split of a Roboflow COCO dataset.

    Args:
        folder: New folder of the split.
        data: The annotations.
        rows: Which images; `None`: all.

    Raises:
        DatasetError: An image is missing, lies outside the dataset, or has the name of the annotation file.
    """
    refuse_shards(data)
    truth = data.ground_truth()
    chosen = list(range(len(data)) if rows is None else map(int, rows))
    images = [{**truth["images"][row], "file_name": str(data.file_names[row])} for row in chosen]
    ids = {image["id"] for image in images}
    content = {**truth, "images": images, "annotations": [a for a in truth["annotations"] if a["image_id"] in ids]}
    folder.mkdir(parents=True)
    for name in dict.fromkeys(image["file_name"] for image in images):  # two images may share a file
        place_image(data.images, name, folder)
    with (folder / ANNOTATIONS).open("x", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, allow_nan=False)


def place_image(root: Path, name: str, folder: Path) -> None:
    """Link or copy the image `name` below `root` to the same name below `folder`.

    Raises:
        DatasetError: The name leads out of the folder, itself or through a link, or there is no such file.
    """
    parts = safe_parts(name)
    source, target = root.joinpath(*parts).resolve(), folder.joinpath(*parts)
    if not source.is_relative_to(root.resolve()):
        raise DatasetError(f"the image {name!r} is a link out of {root}")
    if not source.is_file():
        raise DatasetError(f"the image {name!r} is missing from {root}")
    if name == ANNOTATIONS:
        raise DatasetError(f"the image {name!r} of {root} has the name of the annotation file: rename it")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)


def refuse_shards(data: DetectionData) -> None:
    if data.shards is not None:
        raise DatasetError(f"{data.images} holds shards: unpack them first, this works on image files")
