"""Read Pascal VOC: an XML file an image, in the layouts of the devkit, Roboflow, Kaggle and LabelImg.

Pixels count from 1 and the maximum is inclusive, so a box begins at xmin - 1 and ends at xmax. Some tools count from 0
and do not say so; one minimum below 1 gives them away, and then the whole dataset is read as corners that count from 0.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from rfdetr_hwd.data.coco.read import RawSplit
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.formats import Exif
from rfdetr_hwd.data.images import Header, ImageError, read_header
from rfdetr_hwd.data.layout import Found, Split
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.sizes import Size
from rfdetr_hwd.data.voc.pairs import Pairs
from rfdetr_hwd.data.voc.splits import VocSplit, find_voc_splits, splits_apart
from rfdetr_hwd.data.voc.xml import VocFile, VocObject

_THREADS = 8
_TOLERANCE = 1.0  # a pixel, for rounding
_SAME_ASPECT = 0.01


class _Image(NamedTuple):
    """An image that can be used; without annotation file it is background."""

    path: str
    label: str
    file: VocFile | None


def find_voc(root: Path, files: FileList) -> Found | None:
    """Find the splits of a Pascal VOC dataset; see `rfdetr_hwd.data.voc.splits.find_voc_splits`."""
    found = find_voc_splits(root, files)
    if found is None or not found.splits:
        return None
    splits = (Split(split.role, split.name, "voc", root, root, root / split.place) for split in found.splits)
    return Found(tuple(splits), found.notes)


def read_voc_split(split: Split, findings: Findings, exif: Exif = "auto") -> tuple[RawSplit, FileList]:
    """Read the annotations of a split, and list the files that they refer to.

    The classes are those of all splits, in alphabetical order, with the ids 1 to N. An image without annotation file is
    background. `difficult` and `truncated` objects are objects as any other.

    Args:
        split: From `find_voc`; or a directory of images and one of annotation files, both in the dataset.
        findings: Receives what is wrong with annotation files, objects and images.
        exif: Whether boxes are of the upright images, or with `ignore` of the stored ones, where no size tells.

    Raises:
        DatasetError: There is no such split, or no annotation file of the dataset has an object.
    """
    # Find the split, by its name or by the directories that the user names
    files = FileList.scan(split.root)
    found = find_voc_splits(split.root, files)
    parts = [part for part in found.splits if part.role or part.name == split.name] if found else []
    if split.images == split.root and not split.is_fixed:
        part = next((part for part in parts if part.name == split.name), None)
        pairs = found.pairs if found else None
    else:
        apart = splits_apart(
            split.root, files, *(_below(split.root, path) for path in (split.images, split.annotations))
        )
        (part,), pairs, _ = apart
    if part is None or pairs is None:
        raise DatasetError(f"{split.root} has no Pascal VOC split {split.name!r}")

    # Read the annotation files of all splits: they decide on classes and pixels
    every = [entry.label for some in (*parts, part) for entry in some.entries]
    labels = [label for label in dict.fromkeys(every) if label and label not in pairs.unsafe]
    return _read_part(split.root, part, pairs, labels, findings, exif), files


def _below(root: Path, path: Path) -> str:
    """Return a directory's path below the root, as the list of files has it.

    Raises:
        DatasetError: It lies elsewhere.
    """
    if not path.is_relative_to(root):
        raise DatasetError(f"{path} is not in {root}: set data.root to a directory that holds images and annotations")
    return path.relative_to(root).as_posix().removeprefix(".")


def _read_part(
    root: Path, split: VocSplit, pairs: Pairs, labels: Sequence[str], findings: Findings, exif: Exif
) -> RawSplit:
    """Read the annotations of a split; the annotation files of all splits decide on classes and pixels."""
    # Number the classes of all splits, and decide where pixels count from
    things = [thing for label in labels for thing in pairs.read(root, label).objects]
    categories = {name: i for i, name in enumerate(sorted({thing.name for thing in things}), 1)}
    if not categories:
        raise DatasetError(f"{root} has no object in its {len(labels)} annotation files")
    origin = 0 if any(min(thing.corners[:2]) < 1 for thing in things) else 1

    # Turn each object into an entry
    skipped: dict[str, tuple[str, int]] = {}
    images = list(_read_images(root, split, pairs, findings, skipped))
    annotations: list[dict[str, Any]] = []
    places: list[str] = []
    for number, image in enumerate(images, 1):
        for thing in image.file.objects if image.file else ():
            x, y = thing.corners[0] - origin, thing.corners[1] - origin  # the maximum is inclusive: the far edge
            box = [x, y, thing.corners[2] - x, thing.corners[3] - y]
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": categories[thing.name]}
            annotations.append({**ids, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
            places.append(f"{image.label} {thing.place}")

    # Report the origin, and settle the sizes
    if origin == 0 and annotations:
        reason = f"pixels count from 0, not from 1 as in Pascal VOC: {len(annotations)} boxes are read this way"
        findings.add("pixels_from_0", root, split.name, reason)
    sizes = _annotated_sizes(root, images, findings, exif)
    entries = [
        {"id": number, "file_name": image.path, "width": size and size[1], "height": size and size[0]}
        for number, (image, size) in enumerate(zip(images, sizes, strict=True), 1)
    ]

    # Identify what was read
    classes = [{"id": i, "name": name} for name, i in categories.items()]
    read = json.dumps([[image.path, image.file.digest if image.file else ""] for image in images])
    digest = hashlib.sha256(f"{list(categories)} {origin} {read}".encode()).hexdigest()
    num_objects = sum(count for _, count in skipped.values())
    reasons = {path: kind for path, (kind, _) in skipped.items() if kind != "duplicate_label"}
    read_before = (str(root), classes, entries, annotations, digest, places)
    return RawSplit(*read_before, skipped=reasons, skipped_objects=num_objects)


def _read_images(
    root: Path, split: VocSplit, pairs: Pairs, findings: Findings, skipped: dict[str, tuple[str, int]]
) -> Iterator[_Image]:
    """Yield the images that can be used, with what their annotation files say; enter everything else.

    What is skipped is entered by its path: the kind of finding, and the number of its objects.
    """
    for image, label, kind, reason, where in split.entries:
        file = pairs.read(root, label) if label and label not in pairs.unsafe else None
        num_objects = len(file.objects) if file else 0

        # Skip what cannot be used
        if kind:
            findings.add(kind, root / where, "", reason)
            skipped[image or label or f"{where}: {reason}"] = kind, num_objects
            continue
        for problem, who, why in file.problems if file else ():
            findings.add(problem, root / label, who, why)
        if file is not None and not file.is_readable:
            skipped[image] = "unreadable_label", 0
            continue

        # Report how the image was found
        if file is None:
            findings.add("unlabelled_image", root / image, "", "has no annotation file")
        elif image in pairs.named:
            findings.add("image_by_name", root / label, "", f"names the image {image}, and no image has its stem")
        yield _Image(image, label, file)


def _annotated_sizes(root: Path, images: Sequence[_Image], findings: Findings, exif: Exif) -> list[Size | None]:
    """Return the (height, width) that the boxes of each image refer to; `None` where its annotation file says nothing.

    Many tools write a wrong size beside right boxes; but an image that was resized after it was annotated has wrong
    boxes. Boxes that fit into one of the two sizes alone decide it. Where they fit into both, the image's own size is
    taken, unless the two have one aspect ratio or another image has been resized. Sides that are swapped, and sizes
    that are missing, are left to `rfdetr_hwd.data.sizes`, which knows EXIF.
    """
    sizes = [image.file.size if image.file else None for image in images]

    # Read the headers, and judge each size that differs
    with ThreadPoolExecutor(_THREADS) as pool:
        headers = list(pool.map(lambda image: _try_header(root / image.path), images))
    verdicts: dict[int, str] = {}
    for row, (image, size, header) in enumerate(zip(images, sizes, headers, strict=True)):
        if size is not None and header is not None and size not in (header.stored, header.stored[::-1]):
            verdicts[row] = _judge(image.file.objects if image.file else (), header.frame(exif), size)

    # Replace the sizes that are wrong
    has_resized = "annotated" in verdicts.values()
    for row, verdict in verdicts.items():
        header, size, image = headers[row], sizes[row], images[row]
        if header and size and (verdict == "own" or (verdict == "either" and not has_resized)):
            sizes[row] = height, width = header.frame(exif)
            reason = f"says {size[1]}x{size[0]} of {image.path}, which has {width}x{height}"
            findings.add("other_size", root / image.label, "", reason)
    return sizes


def _try_header(path: Path) -> Header | None:
    try:
        return read_header(path)
    except ImageError:
        return None


def _judge(objects: Iterable[VocObject], own: Size, annotated: Size) -> str:
    """Return which size the boxes of an image refer to: its `own`, the one `annotated`, or `either`."""
    # Boxes that fit into one size alone decide
    corners = [thing.corners[2:] for thing in objects]
    fits_own, fits_annotated = (
        all(x <= width + _TOLERANCE and y <= height + _TOLERANCE for x, y in corners)
        for height, width in (own, annotated)
    )
    if fits_own != fits_annotated or not fits_own:
        return "own" if fits_own else "annotated"

    # Those that fit into both do not: a resized image keeps its aspect ratio
    is_scaled = abs(own[0] * annotated[1] / (own[1] * annotated[0]) - 1) < _SAME_ASPECT
    return "annotated" if is_scaled else "either"
