"""Read a split of a dataset, whatever its format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rfdetr_hwd.data.account import Account, take_account
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.coco.layout import find_coco, read_coco_split
from rfdetr_hwd.data.coco.read import RawSplit
from rfdetr_hwd.data.findings import Findings, check_allowed
from rfdetr_hwd.data.formats import Exif, Format
from rfdetr_hwd.data.images import USUAL, ReadOptions
from rfdetr_hwd.data.layout import Found, Split
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.shards import find_shards, read_shards
from rfdetr_hwd.data.validate import index_split
from rfdetr_hwd.data.voc.read import find_voc, read_voc_split
from rfdetr_hwd.data.yolo.read import find_yolo, read_yolo


class Reader(NamedTuple):
    """How a format is found and read.

    Attributes:
        find: Returns the splits of this format in a directory, given the files below it; none if there are none.
        read: Returns the entries of a split and the files that they refer to; findings receive what is wrong. Sizes
            that are read from the image files are as `data.exif` says.
    """

    find: Callable[[Path, FileList], Found | None]
    read: Callable[[Split, Findings, Exif], tuple[RawSplit, FileList]]


def _read_coco(split: Split, findings: Findings, _: Exif) -> tuple[RawSplit, FileList]:
    return read_coco_split(split, findings)


def _read_shards(split: Split, findings: Findings, exif: Exif) -> tuple[RawSplit, FileList]:
    raw = read_shards(split.root, split.name, FileList.scan(split.root), findings, exif)
    return raw, FileList(split.root, frozenset(str(image["file_name"]) for image in raw.images))


READERS: Mapping[Format, Reader] = {
    "webdataset": Reader(find_shards, _read_shards),
    "coco": Reader(find_coco, _read_coco),
    "roboflow": Reader(lambda root, files: _only_roboflow(find_coco(root, files)), _read_coco),
    "yolo": Reader(find_yolo, read_yolo),
    "voc": Reader(find_voc, read_voc_split),
}
"""The formats, in the order in which a directory is asked for them."""


def scan_split(
    split: Split, findings: Findings, options: ReadOptions = USUAL, every_header: bool = False
) -> DetectionData:
    """Read what can be used of the annotations of a split, whatever is wrong with single entries.

    Args:
        split: Where it lies.
        findings: Receives what is wrong, also where the split then cannot be read.
        options: How its images are read.
        every_header: Compare the annotated size of every image with its file's, not only of a sample.

    Raises:
        DatasetError: The split cannot be read at all, or nothing in it can be used.
    """
    return scan_counted(split, findings, options, every_header)[0]


def scan_counted(
    split: Split, findings: Findings, options: ReadOptions = USUAL, every_header: bool = False
) -> tuple[DetectionData, Account]:
    """Read a split as `scan_split` does; also return what it had and what of it is used.

    Raises:
        DatasetError: As `scan_split`; or more is missing than the findings say.
    """
    own = Findings()  # an error gives examples of this split alone
    try:
        raw, files = READERS[split.format].read(split, own, options.exif)
        by_reader = own.counts.copy()
        data = replace(index_split(raw, split.name, files, own, options.exif, every_header), options=options)
        return data, take_account(raw, data, by_reader, own.counts)
    finally:
        findings.include(own)


def read_split(
    split: Split, allow: Sequence[str] = (), options: ReadOptions = USUAL, every_header: bool = False
) -> DetectionData:
    """Read the annotations of a split, and refuse those that would break or distort training or measurement.

    Args:
        split: Where it lies.
        allow: Kinds of error to accept, from `rfdetr_hwd.data.findings.KINDS`.
        options: How its images are read.
        every_header: As in `scan_split`.

    Raises:
        DatasetError: The split cannot be read, or entries are wrong; the message names them.
    """
    check_allowed(allow)
    findings = Findings()
    data = scan_split(split, findings, options, every_header)
    findings.refuse_errors(allow)
    return data


def _only_roboflow(found: Found | None) -> Found | None:
    splits = tuple(split for split in found.splits if split.format == "roboflow") if found else ()
    return Found(splits, found.notes) if found and splits else None
