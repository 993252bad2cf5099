"""Small YOLO datasets: files by their paths, pictures of 40 by 20 pixels."""

from collections.abc import Mapping
from pathlib import Path

import PIL.Image

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import Findings
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.read import scan_split
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.data.yolo.layout import YoloSplits, find_yolo_splits

YAML = "names: [cat, dog]\nnc: 2\n"
BOX = "1 0.5 0.5 0.25 0.5\n"
"""A dog at x 15, y 5, of 10 by 10 pixels."""
_PICTURE = PIL.Image.new("RGB", (40, 20))
_FORMATS = {".jfif": "JPEG", ".jpe": "JPEG", ".mpo": "JPEG", ".apng": "PNG", ".heic": "PNG", ".gif": "GIF"}


def write_tree(root: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """Write texts by their paths, and pictures where there is no text; return the root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            _PICTURE.save(path, _FORMATS.get(path.suffix.lower()))
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
    return root


def write_split(root: Path, images: str = "train/images", labels: str = "train/labels", stem: str = "a") -> Path:
    """Write a picture and its label."""
    return write_tree(root, {f"{images}/{stem}.png": None, f"{labels}/{stem}.txt": BOX})


def find(root: Path) -> YoloSplits:
    """Find the splits of a dataset that is there."""
    found = find_yolo_splits(root, FileList.scan(root))
    assert found is not None
    return found


def scan(root: Path, role: Role = "train") -> tuple[DetectionData, Findings]:
    """Read a split, whatever is wrong with it."""
    findings = Findings()
    return scan_split(find_layout(root).split(role), findings), findings


def reasons(findings: Findings, kind: str) -> list[str]:
    """Return the reasons of all findings of a kind."""
    return [finding.reason for finding in findings.examples.get(kind, [])]
