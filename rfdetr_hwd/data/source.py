"""Find a detection dataset and read its splits: COCO and Roboflow folders, YOLO exports, Pascal VOC, shards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from rfdetr_hwd.data.account import Account, take_account
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.coco import RawSplit, read_coco
from rfdetr_hwd.data.files import FileList
from rfdetr_hwd.data.findings import DatasetError, Findings, check_allowed
from rfdetr_hwd.data.index import index_split
from rfdetr_hwd.data.roles import ROLES, Role
from rfdetr_hwd.data.shards import index_name, read_shards
from rfdetr_hwd.data.voc import read_voc
from rfdetr_hwd.data.voc_splits import find_voc
from rfdetr_hwd.data.yolo import find_yaml, has_split, read_yolo

Format = Literal["coco", "roboflow", "yolo", "webdataset", "voc"]

USUAL_NAMES: Mapping[Role, str | None] = MappingProxyType({})
"""No split has a name of its own."""

_SPLIT_NAMES: dict[Format, dict[Role, tuple[str, ...]]] = {
    "coco": {"train": ("train2017", "train"), "val": ("val2017", "val", "valid"), "test": ("test2017", "test")},
    "roboflow": {"train": ("train",), "val": ("valid", "val"), "test": ("test",)},
    "webdataset": {"train": ("train",), "val": ("val", "valid"), "test": ("test",)},
}

_LOOKED_FOR = """\
  SPLIT/_annotations.coco.json                                    Roboflow's COCO export
  annotations/instances_SPLIT.json, annotations/SPLIT.json or SPLIT.json, with SPLIT/ or images/      COCO
  data.yaml with images/ and labels/                              YOLO
  Annotations/ (XML files) with JPEGImages/ or images/, or XML files beside the images      Pascal VOC
  SPLIT-index.json beside tar files                               WebDataset shards"""


class Split(NamedTuple):
    """Where one split of a dataset lies.

    Attributes:
        role: What it is for.
        name: Its own name.
        format: Format of the dataset.
        root: Folder of the dataset; links may lead anywhere in it.
        images: Folder of the images, of the shards, or the root of a YOLO dataset.
        annotations: The annotation file, the index of the shards, or the root of a YOLO dataset.
    """

    role: Role
    name: str
    format: Format
    root: Path
    images: Path
    annotations: Path


@dataclass(frozen=True)
class Layout:
    """A dataset folder whose format is known.

    Attributes:
        root: Folder of the dataset.
        format: `coco` (annotations beside image folders), `roboflow` (annotations in each split's folder), `yolo`
            (data.yaml, text files) or `webdataset` (tar files with an index).
    """

    root: Path
    format: Format

    def split(self, role: Role, name: str | None = None) -> Split:
        """Return the paths of a split; `name` defaults to the format's own name for the role."""
        if self.format == "yolo":
            return Split(role, name or role, "yolo", self.root, self.root, self.root)
        if self.format == "voc":
            found = find_voc(self.root, FileList.scan(self.root))
            splits = [s for s in found.splits if (s.name == name if name else s.role == role)] if found else []
            own = splits[0].name if splits else name or role
            return Split(role, own, "voc", self.root, self.root, self.root if splits else self.root / own)
        candidates = [place for n in ([name] if name else _SPLIT_NAMES[self.format][role]) for place in self._places(n)]
        chosen = next((place for place in candidates if place[1].is_file()), candidates[0])
        own = chosen[1].parent.name if self.format == "roboflow" else chosen[2]
        return Split(role, own, self.format, self.root, *chosen[:2])

    def splits(self, names: Mapping[Role, str | None] = USUAL_NAMES) -> Iterator[Split]:
        """Yield the splits that are there, under their usual names or those that are given."""
        files = FileList.scan(self.root) if self.format == "yolo" else None
        for role in ROLES:
            split = self.split(role, names.get(role))
            if has_split(self.root, role, files) if files else split.annotations.exists():
                yield split

    def _places(self, name: str) -> Iterator[tuple[Path, Path, str]]:
        """Yield (images, annotations, name) of where a split may lie."""
        root = self.root
        if self.format == "roboflow":
            yield root / name, root / name / "_annotations.coco.json", name
        elif self.format == "webdataset":
            yield root, root / index_name(name), name
        else:
            folders = [root / name, root / "images" / name, root / "images"]
            images = next((folder for folder in folders if folder.is_dir()), folders[0])
            yield images, root / "annotations" / f"instances_{name}.json", name
            yield images, root / "annotations" / f"{name}.json", name
            yield images, root / f"{name}.json", name


def find_layout(root: str | Path, format: Format | Literal["auto"] = "auto") -> Layout:
    """Recognise the layout of a dataset folder.

    Args:
        root: The folder.
        format: Its format, or `auto`.

    Raises:
        DatasetError: The folder is missing or has no known layout; the message says what was looked for.
    """
    root = Path(root)
    if not root.is_dir():
        where = "" if root.is_absolute() else f" in {Path.cwd()}"
        raise DatasetError(f"data.root: there is no folder {root}{where}")
    if format != "auto":
        return Layout(root, format)
    if any(root.glob("*/_annotations.coco.json")):
        return Layout(root, "roboflow")
    if any(root.glob("*-index.json")) and any(root.glob("*.tar")):
        return Layout(root, "webdataset")
    if find_yaml(root):
        return Layout(root, "yolo")
    coco = Layout(root, "coco")
    if any(root.glob("annotations/instances_*.json")) or any(coco.splits()):
        return coco
    if find_voc(root, FileList.scan(root)):
        return Layout(root, "voc")
    raise DatasetError(
        f"{root} has no layout that is known. Looked for\n{_LOOKED_FOR}\nSet data.root to the folder that holds them"
    )


def scan_split(split: Split, findings: Findings, every_header: bool = False) -> DetectionData:
    """Read what can be used of the annotations of a split, whatever is wrong with single entries.

    Args:
        split: Where it lies.
        findings: Receives what is wrong, also where the split then cannot be read.
        every_header: Compare the annotated size of every image with its file's, not only of a sample.

    Raises:
        DatasetError: The split cannot be read at all, or nothing in it can be used.
    """
    return scan_counted(split, findings, every_header)[0]


def scan_counted(split: Split, findings: Findings, every_header: bool = False) -> tuple[DetectionData, Account]:
    """Read a split as `scan_split` does; also return what it had and what of it is used.

    Raises:
        DatasetError: As `scan_split`; or more is missing than the findings say.
    """
    own = Findings()  # an error gives examples of this split alone
    try:
        raw, files = _read_raw(split, own)
        by_reader = own.counts.copy()
        data = index_split(raw, split.name, files, own, every_header=every_header)
        return data, take_account(raw, data, by_reader, own.counts)
    finally:
        findings.include(own)


def _read_raw(split: Split, findings: Findings) -> tuple[RawSplit, FileList]:
    """Return the entries of a split, and the files that they refer to."""
    if not split.images.is_dir():
        raise DatasetError(f"there is no image folder {split.images}: set data.{split.role} to the name of a split")
    files = FileList.scan(split.images, split.root)
    if split.format == "yolo":
        name = None if split.name == split.role else split.name
        return read_yolo(split.images, split.role, name, files, findings), files
    if split.format == "voc":
        return read_voc(split.root, split.name, files, findings), files
    if split.format == "webdataset":
        raw = read_shards(split.images, split.name, files, findings)
        return raw, FileList(split.images, frozenset(str(image["file_name"]) for image in raw.images))
    return read_coco(split.annotations), files


def read_split(split: Split, allow: Sequence[str] = (), every_header: bool = False) -> DetectionData:
    """Read the annotations of a split, and refuse those that would break or distort training or measurement.

    Args:
        split: Where it lies.
        allow: Kinds of error to accept, from `rfdetr_hwd.data.findings.KINDS`.
        every_header: As in `scan_split`.

    Raises:
        DatasetError: The split cannot be read, or entries are wrong; the message names them.
    """
    check_allowed(allow)
    findings = Findings()
    data = scan_split(split, findings, every_header)
    findings.refuse_errors(allow)
    return data
