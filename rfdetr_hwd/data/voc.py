"""Read Pascal VOC annotations: an XML file an image, parsed by defusedxml, boxes in pixels that count from 1."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.images import IMAGE_SUFFIXES, read_size

_MAX_XML_BYTES = 16 << 20
_MAX_COORDINATE = 1e7


class _VocObject(NamedTuple):
    name: str
    corners: tuple[float, float, float, float]


class _VocImage(NamedTuple):
    file_name: str
    height: int
    width: int
    objects: list[_VocObject]


def read_voc(source: Path) -> dict[str, tuple[DetectionData, Counter[str]]]:
    """Read all splits of a dataset; see `rfdetr_hwd.data.convert.voc_to_coco` for what is recognised.

    Returns:
        By role the annotations, and what is worth a note with how often.

    Raises:
        DatasetError: There is no such layout, or a file is missing, malformed or lies outside.
    """
    notes: dict[str, Counter[str]] = {}
    splits: dict[str, tuple[Path, list[_VocImage]]] = {}
    for role, folder, pairs in _voc_splits(source):
        notes[role] = Counter()
        for _, xml in pairs:
            if not xml.resolve().is_relative_to(source.resolve()):
                raise DatasetError(f"{xml} is a link out of {source}")
        splits[role] = folder, [_read_voc(folder / name, xml, notes[role]) for name, xml in pairs]
    every = [thing for _, images in splits.values() for image in images for thing in image.objects]
    class_names = tuple(sorted({thing.name for thing in every}))
    if not class_names:
        raise DatasetError(f"{source} has no objects: there is nothing to convert")
    origin = 0 if any(min(thing.corners[:2]) < 1 for thing in every) else 1
    read = {}
    for role, (folder, images) in splits.items():
        data = _voc_data(role, folder, images, class_names, origin)
        if origin == 0:
            notes[role]["boxes whose pixels count from 0, not from 1 as in VOC"] += len(data.labels)
        read[role] = data, notes[role]
    return read


def _voc_splits(source: Path) -> Iterator[tuple[str, Path, list[tuple[str, Path]]]]:
    """Yield (role, folder of the images, (image below it, XML file, which may be missing)) of a VOC dataset."""
    folder, lists = source / "JPEGImages", source / "ImageSets" / "Main"
    if folder.is_dir() and (source / "Annotations").is_dir():
        images = {path.stem: path.name for path in _images(folder)}
        roles = [role for role in ("train", "val", "test") if (lists / f"{role}.txt").is_file()]
        for role in roles or ["train"]:
            stems = _listed(lists / f"{role}.txt") if roles else list(images)
            missing = next((stem for stem in stems if stem not in images), None)
            if missing is not None:
                raise DatasetError(f"{lists / f'{role}.txt'} lists {missing!r}, which is not in {folder}")
            yield role, folder, [(images[stem], source / "Annotations" / f"{stem}.xml") for stem in stems]
        return
    found = False
    for role, name in [("train", "train"), ("val", "valid"), ("val", "val"), ("test", "test"), ("train", ".")]:
        folder = source / name
        if any(folder.glob("*.xml")) and not (found and name == "."):
            found = True
            yield role, folder, [(path.name, path.with_suffix(".xml")) for path in _images(folder)]
    if not found:
        raise DatasetError(
            f"{source} is not a Pascal VOC dataset: looked for Annotations/ with JPEGImages/, and for XML files in "
            "train/, valid/, test/ and in the folder itself"
        )


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _listed(path: Path) -> list[str]:
    """Return the names that a list of ImageSets holds, without the flags some lists have beside them."""
    lines = _read_bounded(path).decode("utf-8", "replace").splitlines()
    return list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))


def _read_voc(image: Path, xml: Path, notes: Counter[str]) -> _VocImage:
    (height, width), _ = read_size(image)
    if not xml.is_file():
        return _VocImage(image.name, height, width, [])
    try:
        root = fromstring(_read_bounded(xml), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise DatasetError(f"{xml} is not XML that can be trusted: {' '.join(str(error).split())}") from None
    said = [root.findtext(f"size/{side}", "").strip() for side in ("height", "width")]
    notes["images whose size in the XML is another"] += said not in ([str(height), str(width)], ["", ""], ["0", "0"])
    objects = []
    for number, element in enumerate(root.findall("object"), 1):
        label = (element.findtext("name") or "").strip()
        texts = [element.findtext(f"bndbox/{key}", "") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x0, y0, x1, y1 = map(float, texts)
        except ValueError:
            x0 = y0 = x1 = y1 = float("nan")
        if not label or not all(abs(value) < _MAX_COORDINATE for value in (x0, y0, x1, y1)):
            raise DatasetError(f"{xml}: object {number} has no name or no box of four numbers: {label!r}, {texts}")
        notes["objects marked difficult, kept"] += element.findtext("difficult", "").strip() == "1"
        objects.append(_VocObject(label, (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))))
    return _VocImage(image.name, height, width, objects)


def _voc_data(
    role: str, folder: Path, images: list[_VocImage], class_names: tuple[str, ...], origin: int
) -> DetectionData:
    objects = [thing for image in images for thing in image.objects]
    corners = np.array([thing.corners for thing in objects], dtype=np.float64).reshape(-1, 4)
    corners[:, :2] -= origin  # the maximum is inclusive where pixels count from 1: it is the far edge already
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    return DetectionData(
        name=role,
        images=folder,
        class_names=class_names,
        category_ids=tuple(range(1, len(class_names) + 1)),
        image_ids=np.arange(1, len(images) + 1),
        file_names=np.array([image.file_name for image in images], dtype=np.str_),
        sizes=np.array([(image.height, image.width) for image in images], dtype=np.int64).reshape(-1, 2),
        offsets=np.cumsum([0, *(len(image.objects) for image in images)]),
        boxes_xywh=boxes,
        labels=np.array([class_names.index(thing.name) for thing in objects], dtype=np.int64),
        crowd=np.zeros(len(objects), dtype=bool),
        areas=boxes[:, 2] * boxes[:, 3],
        fingerprint="",
    )


def _read_bounded(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_XML_BYTES:
            raise DatasetError(f"{path} is larger than {_MAX_XML_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from None
