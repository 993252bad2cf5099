"""Find a detection dataset and read its splits: COCO and Roboflow folders, YOLO exports, WebDataset shards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.coco import read_coco
from rfdetr_hwd.data.files import FileList
from rfdetr_hwd.data.findings import DatasetError, Findings, check_allowed
from rfdetr_hwd.data.images import AS_STORED, ReadOptions
from rfdetr_hwd.data.index import index_split
from rfdetr_hwd.data.shards import index_name, read_shards
from rfdetr_hwd.data.yolo import find_yaml, has_split, read_yolo

Role = Literal["train", "val", "test"]
Format = Literal["coco", "roboflow", "yolo", "webdataset"]

ROLES: tuple[Role, ...] = ("train", "val", "test")

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
        candidates = [place for n in ([name] if name else _SPLIT_NAMES[self.format][role]) for place in self._places(n)]
        found = next((place for place in candidates if place[1].is_file()), candidates[0])
        return Split(
            role, found[1].parent.name if self.format == "roboflow" else found[2], self.format, self.root, *found[:2]
        )

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
    raise DatasetError(
        f"{root} has no layout that is known. Looked for\n{_LOOKED_FOR}\nSet data.root to the folder that holds them"
    )


def scan_split(split: Split, findings: Findings, options: ReadOptions = AS_STORED) -> DetectionData:
    """Read what can be used of the annotations of a split, whatever is wrong with single entries.

    Args:
        split: Where it lies.
        findings: Receives what is wrong, also where the split then cannot be read.
        options: How its images are read.

    Raises:
        DatasetError: The split cannot be read at all, or nothing in it can be used.
    """
    if not split.images.is_dir():
        raise DatasetError(f"there is no image folder {split.images}: set data.{split.role} to the name of a split")
    files = FileList.scan(split.images, split.root)
    if split.format == "yolo":
        raw = read_yolo(split.images, split.role, None if split.name == split.role else split.name, files, findings)
    elif split.format == "webdataset":
        raw = read_shards(split.images, split.name, files, findings)
        files = FileList(split.images, frozenset(str(image["file_name"]) for image in raw.images))
    else:
        raw = read_coco(split.annotations)
    return replace(index_split(raw, split.name, files, findings), options=options)


def read_split(split: Split, allow: Sequence[str] = (), options: ReadOptions = AS_STORED) -> DetectionData:
    """Read the annotations of a split, and refuse those that would break or distort training or measurement.

    Args:
        split: Where it lies.
        allow: Kinds of error to accept, from `rfdetr_hwd.data.findings.KINDS`.
        options: How its images are read.

    Raises:
        DatasetError: The split cannot be read, or entries are wrong; the message names them.
    """
    check_allowed(allow)
    findings = Findings()
    data = scan_split(split, findings, options)
    findings.refuse_errors(allow)
    return data
