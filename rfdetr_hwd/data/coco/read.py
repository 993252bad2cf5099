"""Read a COCO annotation file: JSON whose entries are not checked yet."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rfdetr_hwd.data.findings import DatasetError, name_entry, shown
from rfdetr_hwd.data.segmentation import keep_outline

MAX_ANNOTATION_BYTES = 4 << 30
_UNUSED = ("keypoints", "caption", "attributes")  # with the segmentations nine tenths of COCO's file


@dataclass(frozen=True)
class RawSplit:
    """Annotations in COCO's terms, not checked yet.

    Attributes:
        where: The file they come from, for messages.
        categories: Entries with `id`, `name`, `supercategory`.
        images: Entries with `id`, `file_name`, `width`, `height`.
        annotations: Entries with `id`, `image_id`, `category_id`, `bbox`, `area`, `iscrowd`; with `segmentation`, an
            `Outline`, where there is no box.
        fingerprint: sha256 of what was read.
        places: How each annotation is called in messages; by its id where this is empty.
        shards: By image id, where the images lie in tar files, if they do.
        skipped: Images that the reader skips, by their files, with the kind of finding that says why.
        skipped_objects: Objects of these images, as far as they can be read.
        is_measured: Whether the sizes of the images are those of their files already.
    """

    where: str
    categories: list[Any]
    images: list[Any]
    annotations: list[Any]
    fingerprint: str
    places: Sequence[str] = ()
    shards: tuple[tuple[Path, ...], Mapping[int, tuple[int, int, int]]] | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    skipped_objects: int = 0
    is_measured: bool = False


def read_coco(path: Path) -> RawSplit:
    """Read an annotation file.

    Args:
        path: COCO JSON, at most `MAX_ANNOTATION_BYTES`.

    Raises:
        DatasetError: It is missing, not JSON (NaN and Infinity are not), or not COCO's structure.
    """
    # Check the structure alone: the entries are checked one by one later
    content, text = read_entry(path)
    content.setdefault("categories", [])  # whose absence is a finding
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DatasetError(f"{path} is not a COCO annotation file: {key!r} is missing or not a list")
    fingerprint = hashlib.sha256(text).hexdigest()
    return RawSplit(str(path), content["categories"], content["images"], content["annotations"], fingerprint)


def read_entry(path: Path) -> tuple[dict[str, Any], bytes]:
    """Read a JSON object of bounded size, and the bytes it was read from.

    Raises:
        DatasetError: The file is missing, not JSON (NaN and Infinity are not), or holds something else.
    """
    try:
        # Read a file of bounded size
        if path.stat().st_size > MAX_ANNOTATION_BYTES:
            raise DatasetError(f"{path} is larger than {MAX_ANNOTATION_BYTES >> 30} GiB")
        text = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read the annotations {path}: {error.strerror}") from None
    try:
        # Parse it, and shed what detection does not use while parsing: afterwards would be too late
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_to_entry)
    except _ConstantError as error:
        raise DatasetError(f"{path}: {_name_constant(text)}{error} is not a JSON number") from None
    except UnicodeDecodeError:
        raise DatasetError(f"{path} is not a COCO annotation file: it is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is {f'not valid JSON: {error}' if text.strip() else 'empty'}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path} is not a COCO annotation file: it holds a {type(content).__name__}, not an object")
    return content, text


def _to_entry(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object without what detection does not use: kept, it would take gigabytes of COCO's file."""
    entry = dict(pairs)
    if len(entry) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate key {shown(twice)} in the object {shown(entry)}")
    for key in _UNUSED:
        entry.pop(key, None)
    if "segmentation" in entry:
        keep_outline(entry)
    return entry


class _ConstantError(ValueError):
    """NaN or an infinity, which Python's parser takes and JSON does not have."""


def _refuse_constant(name: str) -> None:
    raise _ConstantError(name)


def _name_constant(text: bytes) -> str:
    """Return which entry holds the first NaN or infinity, for the message."""
    try:
        # Parse it again, with the constants marked
        content = json.loads(text, parse_constant=_ConstantError, object_pairs_hook=_to_entry)
    except (ValueError, RecursionError):  # more is wrong further on
        return ""

    # Find the first entry that holds a mark
    entries = content.items() if isinstance(content, dict) else ()
    for key, values in entries:
        for number, entry in enumerate(values if isinstance(values, list) else []):
            if "_ConstantError(" in repr(entry):
                return f"{name_entry(key.removesuffix('s'), number, entry)}: "
    return ""
