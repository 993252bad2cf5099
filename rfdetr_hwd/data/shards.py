"""Read WebDataset shards as `rfdetr.datasets.webdataset` packs them: SPLIT-index.json beside uncompressed tar files.

Each sample is an image and a `.json` of its annotations with one base name. The tar files are indexed once and their
members read at their offsets, so that an epoch has the same order, and can be entered anywhere, as in a directory.
"""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

from rfdetr_hwd.data.coco.read import RawSplit, read_entry
from rfdetr_hwd.data.findings import DatasetError, Findings, is_id, shown
from rfdetr_hwd.data.formats import Exif
from rfdetr_hwd.data.images import IMAGE_SUFFIXES, MAX_FILE_BYTES, Header, ImageError, read_header
from rfdetr_hwd.data.layout import Found, Split
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import role_of
from rfdetr_hwd.data.segmentation import keep_outline

_MAX_SIDECAR_BYTES = 64 << 20
_MAX_MEMBERS = 1 << 24
_HEADER_BYTES = 1 << 16


def index_name(split: str) -> str:
    """Return the name of a split's index file."""
    return f"{split}-index.json"


def find_shards(root: Path, files: FileList) -> Found | None:
    """Find the splits of a dataset of shards: each has an index in the root, with tar files beside it."""
    indexes = sorted(name for name in files.names if name.endswith(index_name("")) and "/" not in name)
    if not indexes or not any(name.endswith(".tar") for name in files.names):
        return None
    names = [name.removesuffix(index_name("")) for name in indexes]
    splits = (Split(role_of(name), name, "webdataset", root, root, root / index_name(name)) for name in names)
    return Found(tuple(splits))


def read_shards(root: Path, split: str, files: FileList, findings: Findings, exif: Exif = "auto") -> RawSplit:
    """Read the annotations of a split from its shards.

    Args:
        root: Directory of the index and the shards.
        split: Name of the split.
        files: All files below `root`.
        findings: Receives what is wrong with samples.
        exif: Whether boxes are of the upright images, or with `ignore` of the stored ones.

    Raises:
        DatasetError: The index or a shard is missing or cannot be read.
    """
    # Read the index
    path = root / index_name(split)
    index, text = read_entry(path)
    names, categories = index.get("shards"), index.get("categories")
    if not isinstance(names, list) or not isinstance(categories, list) or not names:
        raise DatasetError(f"{path} is not an index of shards: 'shards' and 'categories' must be lists")

    # Read the samples of each shard
    digest = hashlib.sha256(text)
    images: list[dict[str, Any]] = []
    annotations: list[Any] = []
    members: dict[int, tuple[int, int, int]] = {}
    skipped: dict[str, str] = {}
    num_skipped = 0
    for number, name in enumerate(names):
        kind, reason = files.problem(name) if isinstance(name, str) else ("missing_file", f"is named {shown(name)}")
        if kind:
            raise DatasetError(f"{path}: the shard {reason}")
        samples = _samples(root / name)
        with (root / name).open("rb") as file:
            for key, parts in samples.items():
                entry = _read_sample(file, key, parts, digest, findings, exif)
                if isinstance(entry, str):
                    skipped[f"{name}/{key}"] = entry
                    continue
                image, objects, (offset, size) = entry
                images.append(image)
                if image["id"] not in members:  # or the objects would land on another sample's picture
                    members[image["id"]] = (number, offset, size)
                    annotations += objects
                else:
                    num_skipped += len(objects)

    # Return them as COCO entries
    paths = tuple(root / str(name) for name in names)
    return RawSplit(
        *(str(path), categories, images, annotations, digest.hexdigest()),
        shards=(paths, members),
        is_measured=True,
        skipped=skipped,
        skipped_objects=num_skipped,
    )


def _samples(shard: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Return for each base name the offset and size of its members, by suffix."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for count, member in enumerate(tar):
                if count > _MAX_MEMBERS:
                    raise DatasetError(f"{shard} has more than {_MAX_MEMBERS} members")
                if member.isfile():
                    key, dot, suffix = member.name.rpartition(".")
                    samples.setdefault(key, {})[dot + suffix.lower()] = (member.offset_data, member.size)
    except (OSError, tarfile.TarError, ValueError) as error:
        raise DatasetError(f"cannot read the shard {shard}: {error}") from None
    return samples


def _read_sample(
    file: BinaryIO,
    key: str,
    parts: dict[str, tuple[int, int]],
    digest: Any,
    findings: Findings,
    exif: Exif,
) -> tuple[dict[str, Any], list[Any], tuple[int, int]] | str:
    """Return the image entry, the annotations, and the image's place; where it is skipped, the kind of finding."""
    shard, who = Path(file.name), f"sample {shown(key)}"

    # Read its annotations
    suffix = next((suffix for suffix in IMAGE_SUFFIXES if suffix in parts), None)
    if suffix is None or ".json" not in parts:
        findings.add("bad_image", shard, who, f"needs an image and a .json, but has {shown(sorted(parts))}")
        return "bad_image"
    text = _read_member(file, *parts[".json"]) if parts[".json"][1] <= _MAX_SIDECAR_BYTES else b""
    digest.update(text)
    try:
        sidecar = json.loads(text)
        image_id, objects = sidecar["image_id"], sidecar["annotations"]
        if not is_id(image_id) or not isinstance(objects, list):
            raise ValueError("image_id must be a whole number and annotations a list")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        findings.add("bad_image", shard, who, f"its .json cannot be read: {error!r}")
        return "bad_image"

    # Read the size of its image
    name = f"{key}{suffix}"
    try:
        height, width = _read_header(file, shard / name, *parts[suffix]).frame(exif)
    except ImageError as error:
        findings.add("unreadable_image", shard, who, str(error))
        return "unreadable_image"
    image = {"id": image_id, "file_name": name, "width": width, "height": height}
    return image, [_owned(entry, image_id) for entry in objects], parts[suffix]


def _read_header(file: BinaryIO, path: Path, offset: int, size: int) -> Header:
    """Return what an image says of itself, from its first bytes if they are enough."""
    try:
        return read_header(path, io.BytesIO(_read_member(file, offset, min(size, _HEADER_BYTES))))
    except ImageError:
        if size <= _HEADER_BYTES or size > MAX_FILE_BYTES:
            raise
        return read_header(path, io.BytesIO(_read_member(file, offset, size)))


def _read_member(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _owned(entry: Any, image_id: int) -> Any:
    """Return an annotation that belongs to the sample it stands in, whatever it says."""
    if not isinstance(entry, dict):
        return entry
    owned = {**entry, "image_id": image_id}
    keep_outline(owned)
    return owned
