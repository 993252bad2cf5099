"""Read the labels of a YOLO split: a text file an image, a line an object."""

import hashlib
from typing import Any

from rfdetr_hwd.data.coco import RawSplit
from rfdetr_hwd.data.files import FileList
from rfdetr_hwd.data.findings import Findings
from rfdetr_hwd.data.images import ImageError, read_size
from rfdetr_hwd.data.text_file import read_lines
from rfdetr_hwd.data.yolo_label_files import LabelFiles
from rfdetr_hwd.data.yolo_labels import BadLine, LineReader, Row
from rfdetr_hwd.data.yolo_layout import YoloSplit
from rfdetr_hwd.data.yolo_pose import PoseSuspicion


def read_yolo(split: YoloSplit, files: FileList, findings: Findings) -> RawSplit:
    """Read the labels of a split.

    A line is `class cx cy w h`, as fractions of the image; `class x1 y1 x2 y2 ...`, a polygon, which becomes its box;
    or, where the description has `kpt_shape`, a box and keypoints. A line that repeats another of its file counts once,
    as it does for Ultralytics. An image without a label file is background.

    Args:
        split: Where the split lies.
        files: All files below the root of the dataset.
        findings: Receives what is wrong with label files and images, and what was assumed.
    """
    return _Reader(split, files, findings).read()


class _Reader:
    """Reads one split, image by image."""

    def __init__(self, split: YoloSplit, files: FileList, findings: Findings) -> None:
        self._split, self._files, self._findings = split, files, findings
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

    def read(self) -> RawSplit:
        """Read everything."""
        description = self._split.description
        self._report_before()
        doubtful = {directory for directory, _ in self._labels.doubts(self._split.images)}
        for image in self._split.images:
            if image.rpartition("/")[0] not in doubtful:
                self._read_image(image)
        self._report_after()
        categories = [{"id": number, "name": name} for number, name in description.classes]
        content = self._images, self._annotations, self._digest.hexdigest(), self._places
        return RawSplit(str(description.where), categories, *content)

    def _read_image(self, image: str) -> None:
        label_file = self._labels.label_of(image)
        path = self._files.root / image
        lines = self._read_lines(label_file)
        if lines is None:
            return
        try:
            size, _ = read_size(path)
        except ImageError as error:
            self._findings.add("unreadable_image", path, "", str(error))
            return
        height, width = size
        self._images.append({"id": len(self._images) + 1, "file_name": image, "width": width, "height": height})
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
        if row.points:
            self._suspicion.add(row.points)
        self._lowest = min(self._lowest, row.label)
        if row.label not in self._classes:
            self._unknown.append((place, row.label))
            return
        height, width = size
        x, y, w, h = row.box
        box = [x * width, y * height, w * width, h * height]
        annotation = {"image_id": len(self._images), "category_id": row.label, "bbox": box}
        self._annotations.append({"id": len(self._annotations) + 1, **annotation, "area": abs(box[2] * box[3])})
        self._places.append(place)

    def _read_lines(self, label_file: str) -> list[tuple[int, str]] | None:
        """Return the lines of a label file; none of them where there is no file, and `None` where it cannot be read."""
        kind, reason = self._files.problem(label_file)
        if kind == "missing_file":
            return []
        if not kind:
            try:
                return read_lines(self._files.root / label_file)
            except (OSError, ValueError) as error:
                kind, reason = "unreadable_label", str(error)
        self._findings.add(kind, self._files.root / label_file, "", reason)
        return None

    def _report_before(self) -> None:
        """Report what is known of the split before its labels are read."""
        split, where = self._split, self._split.description.where
        for problem in split.problems:
            self._findings.add(*problem)
        if split.description.wrong_count:
            self._findings.add("class_count", where, "", split.description.wrong_count)
        for note in (*split.notes, *self._labels.notes(split.images)):
            self._findings.add("assumed", where, split.role, note)
        for directory, reason in self._labels.doubts(split.images):
            self._findings.add("unreadable_label", self._files.root / directory, "", reason)
        for label, reason in self._labels.unused(split.images):
            self._findings.add("unused_label", self._files.root / label, "", reason)
        if not any(self._labels.label_of(image) in self._files.names for image in split.images):
            first = self._labels.label_of(split.images[0])
            reason = f"none of its {len(split.images)} images has a label file (such as {first}): all are background"
            self._findings.add("assumed", where, split.role, reason)

    def _report_after(self) -> None:
        """Report what only all labels together tell."""
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
