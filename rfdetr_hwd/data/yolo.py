"""Read YOLO labels: data.yaml names the classes and splits, a text file beside each image folder holds its boxes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from rfdetr_hwd.data.coco import RawSplit
from rfdetr_hwd.data.files import FileList
from rfdetr_hwd.data.findings import DatasetError, Findings, shown
from rfdetr_hwd.data.images import IMAGE_SUFFIXES, ImageError, check_file, read_size
from rfdetr_hwd.data.layout import Found, Split
from rfdetr_hwd.data.roles import ROLES
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.yaml_file import read_yaml

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
_MAX_LABEL_BYTES = 16 << 20
_DEFAULT_FOLDERS = {
    "train": ("train/images", "images/train"),
    "val": ("valid/images", "val/images", "images/val", "images/valid"),
    "test": ("test/images", "images/test"),
}


def find_yaml(root: Path) -> Path | None:
    """Return the file that describes a YOLO dataset, if there is one."""
    return next((root / name for name in YAML_NAMES if (root / name).is_file()), None)


def has_split(root: Path, role: str, files: FileList) -> bool:
    """Return whether a split has images; Roboflow's data.yaml names splits that the export may lack.

    `train` has to be there: reading it says what is wrong.
    """
    path = find_yaml(root)
    if path is None:
        return role == "train"
    try:
        content = read_yaml(path)
        return bool(_find_images(root, role, content.get(role), content.get("path"), files, path))
    except (ConfigError, DatasetError):
        return role == "train"


def find_yolo(root: Path, files: FileList) -> Found | None:
    """Find the splits that data.yaml names, or that lie where they usually do."""
    path = find_yaml(root)
    if path is None:
        return None
    roles = [role for role in ROLES if has_split(root, role, files)]
    return Found(tuple(Split(role, role, "yolo", root, root, path) for role in roles))


def read_yolo(root: Path, role: str, name: str | None, files: FileList, findings: Findings) -> RawSplit:
    """Read the labels of a split.

    A line is `class cx cy w h`, as shares of the image, or `class x1 y1 x2 y2 ...`, a polygon, which becomes its box.
    An image without a label file is background.

    Args:
        root: Folder of the dataset.
        role: `train`, `val` or `test`.
        name: Folder of the split's images below `root`; `None`: what data.yaml or custom says.
        files: All files below `root`.
        findings: Receives what is wrong with label files and images.

    Raises:
        DatasetError: data.yaml is missing or wrong, or there is no such split.
    """
    path = find_yaml(root)
    if path is None:
        raise DatasetError(f"{root} has no {YAML_NAMES[0]}, which names the classes of a YOLO dataset")
    try:
        content = read_yaml(path)
    except ConfigError as error:
        raise DatasetError(str(error)) from None
    digest = hashlib.sha256(path.read_bytes())
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    places: list[str] = []
    for image in _find_images(root, role, name or content.get(role), content.get("path"), files, path):
        kind, reason = files.problem(image)
        if kind:
            findings.add(kind, root / image, "", reason)
            continue
        lines = _read_labels(root, label_file_of(image), files, findings)
        if lines is None:
            continue
        try:
            (height, width), _ = read_size(root / image)
        except ImageError as error:
            findings.add("unreadable_image", root / image, "", str(error))
            continue
        images.append({"id": len(images) + 1, "file_name": image, "width": width, "height": height})
        label_file = label_file_of(image)
        for number, line in lines:
            digest.update(f"{image}:{line}\n".encode())
            values = _parse(line)
            if values is None:
                reason = f"must be `class cx cy w h` or a polygon, not {shown(line)}"
                findings.add("bad_annotation", root / label_file, f"line {number}", reason)
                continue
            label, x, y, w, h = values
            box = [x * width, y * height, w * width, h * height]
            annotation = {"image_id": len(images), "category_id": label, "bbox": box, "area": abs(box[2] * box[3])}
            annotations.append({"id": len(annotations) + 1, **annotation})
            places.append(f"{label_file} line {number}")
    categories = [{"id": i, "name": n} for i, n in _classes(content, path)]
    return RawSplit(str(path), categories, images, annotations, digest.hexdigest(), places, is_measured=True)


def _classes(content: dict[str, Any], path: Path) -> list[tuple[Any, Any]]:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, dict | list) and names and count not in (None, len(names)):
        raise DatasetError(f"{path}: nc is {shown(count)}, and names lists {len(names)} classes")
    if isinstance(names, dict) and names:
        return sorted(names.items(), key=lambda item: str(item[0]).zfill(20))
    if isinstance(names, list) and names:
        return list(enumerate(names))
    raise DatasetError(f"{path}: names must list the classes, not {shown(names)}")


def _find_images(root: Path, role: str, entry: object, base: object, files: FileList, origin: Path) -> list[str]:
    """Return the paths of a split's images below the root, sorted."""
    entries = entry if isinstance(entry, list) else [entry] if entry else list(_DEFAULT_FOLDERS[role])
    found: set[str] = set()
    for item in entries:
        if not isinstance(item, str):
            raise DatasetError(f"{origin}: {role} must be a folder or a list of folders, not {shown(item)}")
        for folder in _candidates(item, base):
            inside = {name for name in files.names if name.startswith(f"{folder}/")} if folder else set(files.names)
            if folder.endswith(".txt") and folder in files.names:
                inside = {str(PurePosixPath(line.strip())) for _, line in _read_list(root / folder)}
            if inside:
                found |= {name for name in inside if name.lower().endswith(IMAGE_SUFFIXES)}
                break
    if not found:
        looked = ", ".join(dict.fromkeys(c for item in entries for c in _candidates(str(item), base)))
        raise DatasetError(f"{root} has no images of the split {role}: looked in {looked} (from {origin.name})")
    return sorted(found)


def _read_list(path: Path) -> list[tuple[int, str]]:
    try:
        return _read_lines(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read the list of images {path}: {error}") from None


def _candidates(entry: str, base: object) -> Iterator[str]:
    """Yield where a path of data.yaml may lie below the root: as it is, below `path`, and without leading `../`.

    Roboflow writes `../train/images` for what lies in `train/images`; others write an absolute `path` of the machine
    where the dataset was made, which says nothing here.
    """
    parts = [part for part in PurePosixPath(entry).parts if part not in ("..", "/", ".")]
    yield "/".join(parts)
    if isinstance(base, str) and not PurePosixPath(base).is_absolute() and ".." not in PurePosixPath(base).parts:
        yield "/".join([*[part for part in PurePosixPath(base).parts if part != "."], *parts])


def label_file_of(image: str) -> str:
    """Return the label file of an image: the last folder `images` becomes `labels`, the suffix `.txt`."""
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return "/".join(parts)


def _read_labels(root: Path, name: str, files: FileList, findings: Findings) -> list[tuple[int, str]] | None:
    """Return the lines of a label file; none of them where there is no file, and `None` where it cannot be read."""
    kind, reason = files.problem(name)
    if kind == "missing_file":
        return []
    if kind:
        findings.add(kind, root / name, "", reason)
        return None
    try:
        return _read_lines(root / name)
    except (OSError, ValueError) as error:
        findings.add("unreadable_label", root / name, "", str(error))
        return None


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the numbered lines of a small text file that are not blank; `OSError` or `ValueError` if it is none."""
    check_file(path)
    if path.stat().st_size > _MAX_LABEL_BYTES:
        raise ValueError(f"it is larger than {_MAX_LABEL_BYTES >> 20} MiB")
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _parse(line: str) -> tuple[int, float, float, float, float] | None:
    """Return class and box (x, y, width, height) as shares of the image, or none where the line cannot be read."""
    try:
        label, *values = (float(word) for word in line.split())
    except ValueError:
        return None
    if label != label or abs(label) > 2**31 or label != int(label):
        return None
    if len(values) == 4:
        cx, cy, width, height = values
        return int(label), cx - width / 2, cy - height / 2, width, height
    if len(values) < 6 or len(values) % 2:
        return None
    xs, ys = values[::2], values[1::2]
    return int(label), min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
