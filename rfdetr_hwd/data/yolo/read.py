"""Read the labels of a YOLO split: a text file an image, a line an object."""

import hashlib
from pathlib import Path
from typing import Any

from rfdetr_hwd.data.coco.read import RawSplit
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.formats import Exif
from rfdetr_hwd.data.images import ImageError, read_header
from rfdetr_hwd.data.layout import Found, Split
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import ROLES
from rfdetr_hwd.data.text_file import read_lines
from rfdetr_hwd.data.yolo.label_files import LabelFiles
from rfdetr_hwd.data.yolo.labels import BadLine, LineReader, Row
from rfdetr_hwd.data.yolo.layout import YoloSplit, find_yolo_splits
from rfdetr_hwd.data.yolo.pose import PoseSuspicion

_SUFFIXES = (".txt", ".yaml", ".yml", ".data", ".names")
"""What labels, lists and descriptions end in."""


def find_yolo(root: Path, files: FileList) -> Found | None:
    """Find a YOLO dataset; see `rfdetr_hwd.data.yolo.layout.find_yolo_splits`.

    Raises:
        DatasetError: What describes the dataset is wrong, or several files describe different ones.
    """
    if not any(name.lower().endswith(_SUFFIXES) for name in files.names):  # seconds sooner, among 300,000 images
        return None
    yolo = find_yolo_splits(root, files)
    if yolo is None:
        return None
    splits = tuple(Split(role, role, "yolo", root, root, yolo.description.where) for role in yolo.found)
    return Found(splits, yolo.notes, yolo.missing)


def read_yolo(split: Split, findings: Findings, exif: Exif = "auto") -> tuple[RawSplit, FileList]:
    """Read the labels of a split, and list the files of its dataset.

    A line is `class cx cy w h`, as fractions of the image; `class x1 y1 x2 y2 ...`, a polygon, which becomes its box;
    or, where the description has `kpt_shape`, a box and keypoints. A line that repeats another of its file counts once,
    as it does for Ultralytics. An image without a label file is background.

    Args:
        split: The split, under the name of its role or a directory or list of its images.
        findings: Receives what is wrong with label files and images, and what was assumed.
        exif: Whether labels are fractions of the upright images, or with `ignore` of the stored ones.

    Raises:
        DatasetError: It is not there.
    """
    # Find the split
    files = FileList.scan(split.root)
    role = next((role for role in ROLES if role == split.name), split.role)
    if role is None:
        raise DatasetError(f"{split.root}: nothing says whether {split.name} is train, val or test")
    yolo = find_yolo_splits(split.root, files, {} if split.name == role else {role: split.name})
    if yolo is None or role not in yolo.found:
        reason = yolo.missing.get(role, "nothing names it") if yolo else "it has no data.yaml and no labels"
        raise DatasetError(f"{split.root} has no images of the split {split.name}: {reason}")
    return _Reader(yolo.found[role], files, findings, exif).read(), files


class _Reader:
    """Reads one split, image by image."""

    def __init__(self, split: YoloSplit, files: FileList, findings: Findings, exif: Exif) -> None:
        self._split, self._files, self._findings, self._exif = split, files, findings, exif
        self._labels = LabelFiles(files.root, files)
        names = dict(split.description.classes)
        self._classes = names.keys()
        self._lines = LineReader(split.description.pose, frozenset(names.values()))
        self._suspicion = PoseSuspicion()
        self._digest = hashlib.sha256(split.description.content)
        self._unknown: list[tuple[str, int]] = []
        self._lowest = 1 << 40
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._places: list[str] = []
        self._skipped: dict[str, str] = {}
        self._num_skipped_objects = 0

    def read(self) -> RawSplit:
        """Read all labels and images of the split."""
        # Report the findings of its description and its files
        description = self._split.description
        self._report_before()

        # Read each image with its labels
        doubtful = dict(self._labels.doubts(self._split.images))
        for image in self._split.images:
            doubt = doubtful.get(image.rpartition("/")[0])
            if doubt is None:
                self._read_image(image)
            else:
                self._skip(image, "unreadable_label", image, doubt)
        # Report the findings that need all labels
        self._report_after()

        # Return everything as COCO entries
        categories = [{"id": number, "name": name} for number, name in description.classes]
        content = self._images, self._annotations, self._digest.hexdigest(), self._places
        skipped, num_objects = self._skipped, self._num_skipped_objects
        return RawSplit(
            str(description.where), categories, *content, skipped=skipped, skipped_objects=num_objects, is_measured=True
        )

    def _read_image(self, image: str) -> None:
        # Read the lines of its labels
        label_file = self._labels.label_of(image)
        kind, reason = self._files.problem(label_file)
        try:
            lines = [] if kind else read_lines(self._files.root / label_file)
        except (OSError, ValueError) as error:
            kind, reason, lines = "unreadable_label", str(error), []
        if kind not in ("", "missing_file"):
            self._skip(image, kind, label_file, reason)
            return

        # Read its size
        try:
            size = read_header(self._files.root / image).frame(self._exif)
        except ImageError as error:
            self._num_skipped_objects += len(lines)
            self._skip(image, "unreadable_image", image, str(error))
            return
        height, width = size
        self._images.append({"id": len(self._images) + 1, "file_name": image, "width": width, "height": height})

        # Add the objects, each line once
        seen: set[tuple[float, ...]] = set()
        for number, line in lines:
            self._digest.update(f"{image}:{line}\n".encode(errors="replace"))
            place = f"{label_file} line {number}"
            row = self._lines.read(line, size)
            if isinstance(row, BadLine):
                self._findings.add(row.kind, self._files.root / label_file, f"line {number}", row.reason)
            elif (row.label, *row.values) in seen:
                reason = "repeats a line of the file"
                self._findings.add("duplicate_line", self._files.root / label_file, f"line {number}", reason)
            else:
                seen.add((row.label, *row.values))
                self._add(row, size, place)

    def _add(self, row: Row, size: tuple[int, int], place: str) -> None:
        # Note what tells about the dataset: polygons that look like poses, the lowest class
        if row.points:
            self._suspicion.add(row.points)
        self._lowest = min(self._lowest, row.label)
        if row.label not in self._classes:
            self._unknown.append((place, row.label))
            return
        height, width = size

        # Add the box in pixels
        x, y, w, h = row.box
        box = [x * width, y * height, w * width, h * height]
        annotation = {"image_id": len(self._images), "category_id": row.label, "bbox": box}
        self._annotations.append({"id": len(self._annotations) + 1, **annotation, "area": abs(box[2] * box[3])})
        self._places.append(place)

    def _skip(self, image: str, kind: str, file: str, reason: str) -> None:
        """Skip an image because of a problem with one of its files."""
        self._findings.add(kind, self._files.root / file, "", reason)
        self._skipped[image] = kind

    def _report_before(self) -> None:
        """Report the findings that are known before the labels are read."""
        split, where = self._split, self._split.description.where
        for problem in split.problems:
            self._findings.add(*problem)
            if problem.kind != "missing_part":
                self._skipped[f"{problem.where} {problem.who}"] = problem.kind
        if split.description.wrong_count:
            self._findings.add("class_count", where, "", split.description.wrong_count)
        for note in (*split.notes, *self._labels.notes(split.images)):
            self._findings.add("assumed", where, split.role, note)
        for directory, reason in self._labels.unread(split.images):
            self._findings.add("unlisted_image", self._files.root / directory, "", reason)
        for label, reason in self._labels.unused(split.images):
            self._findings.add("unused_label", self._files.root / label, "", reason)
        if not any(self._labels.label_of(image) in self._files.names for image in split.images):
            first = self._labels.label_of(split.images[0])
            reason = f"none of its {len(split.images)} images has a label file (such as {first}): all are background"
            self._findings.add("assumed", where, split.role, reason)

    def _report_after(self) -> None:
        """Report the findings that need all labels."""
        where = self._split.description.where
        suspicion = self._suspicion.reason()
        if suspicion:
            self._findings.add("pose_suspected", where, self._split.role, suspicion)
        highest = max((label for _, label in self._unknown), default=0)
        hint = f"; {where.name} has {len(self._classes)} classes, {min(self._classes)} to {max(self._classes)}"
        if self._lowest == 1 and highest == len(self._classes):
            hint += f". The labels hold 1 to {highest}: YOLO counts from 0, so subtract 1 from each"
        for place, label in self._unknown:
            reason = f"has the class {label}, which is not listed{hint}"
            label_file, _, number = place.rpartition(" line ")
            self._findings.add("unknown_category", self._files.root / label_file, f"line {number}", reason)
