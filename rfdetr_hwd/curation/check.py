"""Check a dataset: errors that would break or distort training, and notices."""

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rfdetr_hwd.data.account import Account, unlisted_images
from rfdetr_hwd.data.annotations import ClassMap, DetectionData
from rfdetr_hwd.data.decoding_threads import decode_in_threads, measure_split
from rfdetr_hwd.data.deep_images import DeepValues, describe_bit_depth, join_values
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.formats import Exif
from rfdetr_hwd.data.images import Header, ImageError, ReadOptions, measure_depth, read_header, read_image
from rfdetr_hwd.data.layout import Layout
from rfdetr_hwd.data.near_duplicates import MAX_DISTANCE, hash_image, near_duplicates
from rfdetr_hwd.data.read import scan_counted

_LEARNED = ("train", "val")


@dataclass(frozen=True)
class SplitReport:
    """The contents of a split.

    Attributes:
        name: Name of the split.
        images: Number of images that can be used.
        objects: Number of objects of each class, by name.
        account: Listed and used entries, and the reasons for skipped ones.
    """

    name: str
    images: int
    objects: dict[str, int]
    account: Account

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        account = self.account
        listed = {"listed_images": account.listed_images, "listed_objects": account.listed_objects}
        return {"name": self.name, "images": self.images, "objects": self.objects, **listed, "skipped": account.skipped}


@dataclass
class Report:
    """The result of a check.

    Attributes:
        splits: The splits that could be read.
        findings: The findings in all of them.
        unlisted: Image files that no split lists.
    """

    splits: list[SplitReport] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    unlisted: list[Path] = field(default_factory=list)

    def as_json(self, layout: Layout) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "root": str(layout.root),
            "format": layout.format,
            "splits": [split.as_json() for split in self.splits],
            "findings": self.findings.as_json(),
        }


class _Look(NamedTuple):
    """The result of decoding one image."""

    problem: str
    rotation: tuple[str, str]
    digest: bytes
    hash: np.uint64
    depth: DeepValues = DeepValues()


def check_dataset(
    layout: Layout,
    decode: bool,
    num_queries: int,
    watch: Callable[[str, int, Iterator[Any]], Iterator[Any]] = lambda _, __, images: images,
    bit_depth: int | None = None,
    exif: Exif = "auto",
) -> Report:
    """Check all splits of a dataset.

    Args:
        layout: The dataset.
        decode: Also decode every image, to find unreadable images, wrong sizes and duplicates across splits.
        num_queries: Object queries of the model, the largest number of objects that it can find in an image.
        watch: Given (title, number of images, images), returns the images, and may show progress.
        bit_depth: Bit depth of the values in 16-bit files. `None` detects it in the first split, as training does.
        exif: As `data.exif`.

    Raises:
        DatasetError: The dataset has no split that is used, or a named split does not exist.
    """
    # Find the splits
    report = Report()
    splits = list(layout.splits())
    if not splits:
        raise DatasetError(
            f"{layout.root} has no split that is recognised as train, val or test. {' '.join(layout.remarks())}"
        )
    found: list[tuple[DetectionData, list[_Look]]] = []
    accounts: list[tuple[DetectionData, Account]] = []
    options = ReadOptions(exif=exif)
    for split in splits:
        # Read the annotations, and check them
        try:
            data, account = scan_counted(split, report.findings, options, every_header=decode)
        except DatasetError as error:
            report.findings.add("unreadable_split", split.annotations, split.name, str(error))
            continue
        _check_contents(data, num_queries, report.findings, is_learned=split.role in _LEARNED)

        # Settle how the images are read
        if decode and not found:
            options = ReadOptions(bit_depth or measure_split(data, seed=0).bit_depth, exif)
        data = replace(data, options=options)
        counts = np.bincount(data.labels, minlength=len(data.class_names)).tolist()
        objects = dict(zip(data.class_names, counts, strict=True))
        report.splits.append(SplitReport(data.name, len(data), objects, account))

        # Decode the images, and check them
        looks = list(watch(f"decoding {data.name}", len(data), _look_at_all(data))) if decode else []
        _check_images(data, looks, report.findings)
        _check_depth(data, looks, report.findings, is_recognised=bit_depth is None, is_first=not found)
        found.append((data, looks))
        accounts.append((data, account))

    # Compare the splits with each other, and with the files of the dataset
    _check_classes([data for data, _ in found], report.findings)
    report.unlisted += unlisted_images(layout.root, accounts)
    for path in report.unlisted:
        report.findings.add("unlisted_image", path, "", "is not listed in any annotation file")
    if decode:
        _check_similar(found, report.findings)
    return report


def _check_contents(data: DetectionData, num_queries: int, findings: Findings, is_learned: bool) -> None:
    where = data.images
    # Images with too many objects, or without any.
    lack = data.describe_lack()
    if lack and is_learned:
        findings.add("no_boxes", where, data.name, f"{lack}: nothing to train on or to evaluate")
    per_image = data.objects_per_image()
    for row in np.flatnonzero(per_image > num_queries).tolist():
        reason = f"has {per_image[row]} objects, more than the model's {num_queries} queries"
        findings.add("too_many_objects", where, _name(data, row), reason)
    for row in np.flatnonzero(per_image == 0).tolist():
        findings.add("image_without_boxes", where, _name(data, row), "has no box")
    # Classes without objects.
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    for label in np.flatnonzero(counts == 0).tolist():
        findings.add("class_without_boxes", where, f"class {data.class_names[label]!r}", f"has no box in {data.name}")
    # Boxes that are listed twice: equal rows are neighbours once they are sorted.
    rows = np.repeat(np.arange(len(data)), per_image)
    table = np.column_stack([rows, data.labels, data.boxes_xywh])
    table = table[np.lexsort(table.T)]
    twice = table[1:][(table[1:] == table[:-1]).all(axis=1)]
    for row, label, *box in twice.tolist():
        reason = f"the box {[round(value, 2) for value in box]} of {data.class_names[int(label)]!r} is listed twice"
        findings.add("duplicate_box", where, _name(data, int(row)), reason)


def _look_at_all(data: DetectionData) -> Iterator[_Look]:
    """Yield what decoding shows of every image."""
    yield from decode_in_threads(data, lambda row: _look(data, row), range(len(data)))


def _look(data: DetectionData, row: int) -> _Look:
    path = data.path(row)
    try:
        content = data.read_bytes(row)
        rotation = _describe_rotation(data, row, read_header(path, io.BytesIO(content)))
        depth = measure_depth(path, io.BytesIO(content))
        image = read_image(path, io.BytesIO(content), data.own_options, data.size(row))
    except (ImageError, OSError) as error:
        return _Look(str(error), ("", ""), b"", np.uint64(0))
    return _Look("", rotation, hashlib.sha256(content).digest(), hash_image(image), depth)


def _describe_rotation(data: DetectionData, row: int, header: Header) -> tuple[str, str]:
    """Return the kind of finding about an image that is stored rotated, and the reason, or two empty texts."""
    if header.orientation == 1 or data.is_stored or data.size(row) != header.frame(data.options.exif):
        return "", ""
    if data.options.exif == "ignore":
        return "unrotated_image", "its EXIF orientation is not applied (data.exif=ignore)"
    is_told = header.stored != header.upright
    return "rotated_image", f"is stored rotated, and {'' if is_told else 'assumed to be '}annotated upright"


def _check_images(data: DetectionData, looks: list[_Look], findings: Findings) -> None:
    for row, look in enumerate(looks):
        path, who = data.path(row), _name(data, row)
        if look.problem:
            findings.add("unreadable_image", path, who, look.problem.removeprefix(f"cannot decode {path}: "))
        elif look.rotation[0]:
            findings.add(look.rotation[0], path, who, look.rotation[1])


def _check_depth(
    data: DetectionData, looks: list[_Look], findings: Findings, is_recognised: bool, is_first: bool
) -> None:
    """Find values that do not fit the bit depth: images that are clipped, and splits that are dark."""
    bit_depth = data.options.bit_depth
    for row, look in enumerate(looks):
        for kind, reason in describe_bit_depth(look.depth, bit_depth):
            if kind == "clipped_values":
                findings.add(kind, data.path(row), _name(data, row), reason)
    if is_first or not is_recognised:
        for kind, reason in describe_bit_depth(join_values(look.depth for look in looks), bit_depth, is_recognised):
            if kind == "low_bit_depth":
                findings.add(kind, data.images, data.name, reason)


def _check_classes(splits: list[DetectionData], findings: Findings) -> None:
    """Compare the classes of the other splits with those of the first, by name."""
    for data in splits[1:]:
        ours, theirs = data.class_names, splits[0].class_names
        only_ours, only_theirs = (tuple(sorted(set(a) - set(b))) for a, b in ((ours, theirs), (theirs, ours)))
        classes = ClassMap((), only_theirs, only_ours)
        if classes.only_dataset:
            reason = f"{data.name} has {classes.describe_difference()}, which {splits[0].name} lacks"
            if classes.only_model:
                reason += f". {splits[0].name} has {', '.join(map(repr, classes.only_model))} instead"
            findings.add("classes_differ", data.images, "", reason)


def _check_similar(found: list[tuple[DetectionData, list[_Look]]], findings: Findings) -> None:
    """Find images that are in several splits, or in one twice: with the same bytes, or near-duplicates."""
    places = [(data, row, look) for data, looks in found for row, look in enumerate(looks) if not look.problem]
    # The same bytes.
    by_digest: dict[bytes, int] = {}
    is_copy = set()
    for number, (data, row, look) in enumerate(places):
        first = by_digest.setdefault(look.digest, number)
        if first != number:
            is_copy.add(number)
            kind = "same_image" if places[first][0] is not data else "repeated_image"
            _add_pair(kind, "has the same bytes as", places[first], (data, row, look), findings)
    # Near-duplicates, without those that are reported already.
    hashes = np.array([look.hash for _, _, look in places], dtype=np.uint64)
    for group in near_duplicates(hashes, MAX_DISTANCE):
        members = [number for number in group if number not in is_copy]
        for number in members[1:]:
            _add_pair("similar_image", "looks like", places[members[0]], places[number], findings)


def _add_pair(
    kind: str,
    what: str,
    first: tuple[DetectionData, int, _Look],
    second: tuple[DetectionData, int, _Look],
    findings: Findings,
) -> None:
    (data, row, _), (other, other_row, _) = second, first
    across = "across splits" if data is not other else "in one split"
    findings.add(kind, data.path(row), _name(data, row), f"{what} {other.path(other_row)}, {across}")


def _name(data: DetectionData, row: int) -> str:
    return f"image {data.image_ids[row]}"
