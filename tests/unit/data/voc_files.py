"""Small Pascal VOC datasets, and what is read of a dataset."""

from pathlib import Path
from typing import Any

import PIL.Image

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import Findings
from rfdetr_hwd.data.read import scan_split

Box = tuple[str, object, object, object, object]
Read = dict[str, dict[str, list[tuple[str, list[float]]]]]

SIZE = "<width>64</width><height>48</height>"
CAT: Box = ("cat", 11, 21, 20, 30)
CAT_BOX = ("cat", [10, 20, 10, 10])


def save(path: Path, width: int = 64, height: int = 48, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (width, height), (90, 120, 30)).save(path, **options)


def voc_xml(*objects: Box, size: str = SIZE, file_name: str = "../../etc/passwd", more: str = "") -> str:
    parts = "".join(
        f"<object><name>{name}</name><difficult>{int(name == 'dog')}</difficult><bndbox><xmin>{x0}</xmin>"
        f"<ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
        for name, x0, y0, x1, y1 in objects
    )
    return f"<annotation><filename>{file_name}</filename><size>{size}</size>{parts}{more}</annotation>"


def write_files(root: Path, files: dict[str, str]) -> Path:
    """Write files below a directory; where there is no text, an image of 64x48 pixels."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text:
            path.write_text(text, encoding="utf-8")
        else:
            save(path)
    return root


def write_devkit(root: Path) -> Path:
    return write_files(
        root,
        {
            **{f"JPEGImages/{name}.jpg": "" for name in "abcd"},
            "Annotations/a.xml": voc_xml(("dog", 1, 1, 64, 48), CAT),
            "Annotations/b.xml": voc_xml(("cat", "5.5", 6, "9.25", 8), size=""),
            "Annotations/c.xml": voc_xml(("ant", 30, 8, 3, 4), size="<width>9</width><height>9</height>"),
            "ImageSets/Main/train.txt": "b\na  1\n",
            "ImageSets/Main/val.txt": "c\nd\n",
            "ImageSets/Main/dog_train.txt": "a -1\n",
        },
    )


def read_all(root: Path) -> tuple[Read, Findings]:
    """Return {split: {file: [(class, xywh), ...]}} of all splits of a dataset, and what was found in them."""
    findings = Findings()
    layout = find_layout(root)
    return {split.name: boxes_of(scan_split(split, findings)) for split in layout.splits()}, findings


def boxes_of(data: DetectionData) -> dict[str, list[tuple[str, list[float]]]]:
    found = {}
    for row, name in enumerate(map(str, data.file_names)):
        objects = slice(data.offsets[row], data.offsets[row + 1])
        labels = [data.class_names[label] for label in data.labels[objects]]
        found[name] = list(zip(labels, data.boxes_xywh[objects].tolist(), strict=True))
    return found
