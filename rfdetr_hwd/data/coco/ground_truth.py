"""Read a COCO annotation file as ground truth for detections of any detector, without its images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.coco.read import read_coco
from rfdetr_hwd.data.findings import KINDS, DatasetError, Findings, check_allowed, name_entry
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.sizes import read_annotated
from rfdetr_hwd.data.validate import index_split


def read_evaluated(path: Path) -> DetectionData:
    """Read the annotations of an evaluation. Errors that can be accepted were accepted when it was made.

    Raises:
        DatasetError: The file cannot be read.
    """
    return read_annotations(path, [kind for kind, about in KINDS.items() if about.level == "error" and about.can_allow])


def read_annotations(path: Path, allow: Sequence[str] = ()) -> DetectionData:
    """Read an annotation file, and refuse entries that would distort metrics. The image files need not be there.

    Args:
        path: The annotation file.
        allow: Kinds of error to accept, from `rfdetr_hwd.data.findings.KINDS`.

    Raises:
        DatasetError: The file cannot be read, an image has no size, or entries are wrong. The message names them.
    """
    check_allowed(allow)
    raw = read_coco(path)
    names = set()
    for number, image in enumerate(raw.images):
        if not isinstance(image, dict):
            continue  # a finding
        if read_annotated(image.get("width"), image.get("height")) == (None, ""):
            raise DatasetError(f"{path}: {name_entry('image', number, image)} has no width and height")
        if isinstance(image.get("file_name"), str):
            names.add(image["file_name"])
    findings = Findings()
    files = FileList(path.parent, frozenset(names))
    data = index_split(replace(raw, is_measured=True), path.stem, files, findings)
    findings.refuse_errors(allow, advice=f"Correct {path}, or give the annotations that the detections were made for")
    return data
