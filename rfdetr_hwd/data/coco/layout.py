"""Recognise COCO annotation files by what is in them, whatever they are called and wherever they lie.

A COCO file is a JSON object with `images`, `annotations` and `categories`. Finding out does not parse it: the first and
the last bytes show the keys in the orders that tools write, and only where they do not is the middle searched.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rfdetr_hwd.data.coco.read import RawSplit, read_coco
from rfdetr_hwd.data.findings import DatasetError, Findings, shown
from rfdetr_hwd.data.formats import Format
from rfdetr_hwd.data.image_directory import Owner, choose_directory
from rfdetr_hwd.data.image_places import place_images
from rfdetr_hwd.data.layout import Found, Split, enumerate_some, shown_path
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import role_of

ROBOFLOW_NAME = "_annotations.coco.json"
KEYS = frozenset({"images", "annotations", "categories"})

_PEEK_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 22
_OVERLAP_BYTES = 64
_MAX_RECODED_BYTES = 64 << 20
_MAX_FILES = 10_000
"""JSON files that are looked into: per-image files of other tools come in great numbers."""
_MAX_NAMES = 64
_MANY = 10
_COLON = re.compile(rb"\s*:")
_FILE_NAME = re.compile(r'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')

_SAYS_NOTHING = frozenset(
    ("annotations", "annotation", "annos", "ann", "instances", "labels", "label", "result", "coco", "default", "data")
)
"""Words of file and directory names that are no name of a split."""
_OTHER_TASKS = re.compile(
    r"captions|keypoints|panoptic|stuff|densepose|image_info|predictions|results?_", re.IGNORECASE
)


class Peek(NamedTuple):
    """What a look into a JSON file shows.

    Attributes:
        keys: Which of `KEYS` it has.
        file_names: The first images that it names, as far as the beginning shows them.
    """

    keys: frozenset[str]
    file_names: tuple[str, ...]


def find_coco(root: Path, files: FileList) -> Found | None:
    """Find the COCO annotation files of a dataset, and where the images of each seem to lie.

    Args:
        root: Directory of the dataset.
        files: The files below it.
    """
    # Look into every JSON file, the nearest to the root first
    paths = [path for path in files.names if path.lower().endswith(".json")]
    paths.sort(key=lambda path: (path.count("/"), path))
    peeks = {path: peek_json(root / path) for path in paths[:_MAX_FILES]}
    whole = {path: peek for path, peek in peeks.items() if peek.keys == KEYS or Path(path).name == ROBOFLOW_NAME}
    parts = {path: peek for path, peek in peeks.items() if peek.keys and path not in whole}

    # Report the files that are not used
    notes = []
    if len(paths) > _MAX_FILES:
        notes.append(f"{len(paths) - _MAX_FILES} of {len(paths)} JSON files were not examined")
    if whole and parts:
        lacking = [f"{path} lacks {', '.join(sorted(KEYS - peek.keys))}" for path, peek in parts.items()]
        notes.append(f"not used: {enumerate_some(lacking)}")

    # Without a complete file, take those that lack one key: reading them says which
    nearly = {path: peek for path, peek in parts.items() if len(peek.keys) == len(KEYS) - 1}
    splits = [_to_split(root, path, peek, files) for path, peek in (whole or nearly).items()]
    if len(splits) >= _MANY and not any(split.role for split in splits):
        notes.append(f"{len(splits)} annotation files name no split: if each is of one image, merge them into one")
    return Found(tuple(_settle_roles(splits)), tuple(notes)) if splits else None


def read_coco_split(split: Split, findings: Findings) -> tuple[RawSplit, FileList]:
    """Read an annotation file, and find its images.

    Args:
        split: Where it lies.
        findings: Receives which names differ from the files that are there.

    Returns:
        The entries, and the files that their names refer to.

    Raises:
        DatasetError: The file cannot be read, or which images are meant cannot be told.
    """
    # Read the entries. In most datasets their images are where the layout says, and nothing has to be searched
    raw = read_coco(split.annotations)
    names = [name for image in raw.images if (name := _file_name(image)) is not None]
    files = FileList.scan(split.images, split.root)
    if files.names.issuperset(names):
        return raw, files

    # Otherwise search the whole dataset, unless the user names the directory
    base = split.images if split.is_fixed or not split.images.is_relative_to(split.root) else split.root
    if base != split.images:
        files = FileList.scan(base, split.root)
    is_below = split.annotations.is_relative_to(base)
    owner = _owner(shown_path(split.annotations, base) if is_below else split.annotations.name)

    # Find each image, and report the paths that differ
    places = place_images(names, owner, files)
    for name in places.resolved:
        findings.add("path_differs", raw.where, shown(name), f"is read from {shown(places.paths[name])}")

    # Give the entries the paths that were found
    images = [
        image if (name := _file_name(image)) is None else {**image, "file_name": places.paths.get(name, name)}
        for image in raw.images
    ]
    return replace(raw, images=images), files.below(places.directory).with_hints(places.hints)


def _file_name(image: Any) -> str | None:
    """Return the name of an image, which LVIS gives as a URL alone."""
    name = (image.get("file_name") or image.get("coco_url")) if isinstance(image, dict) else None
    return name if isinstance(name, str) and name else None


def peek_json(path: Path) -> Peek:
    """Look into a JSON file without parsing it; one that holds no object, or cannot be read, shows nothing."""
    try:
        with path.open("rb") as file:
            # Read the beginning
            head = file.read(_PEEK_BYTES)
            encoding = json.detect_encoding(head)
            if not encoding.startswith("utf-8"):  # rare, and never large
                head = (head + file.read(_MAX_RECODED_BYTES)).decode(encoding, "ignore").encode()
            text = head.decode("utf-8-sig", "ignore").lstrip()
            if not text.startswith("{"):
                return Peek(frozenset(), ())
            keys = {key for key in KEYS if _has(head, key)}

            # Read the end, then search the middle if keys are still missing
            position, size = file.tell(), file.seek(0, 2)
            if keys != KEYS and size > position:
                file.seek(max(position, size - _PEEK_BYTES))
                tail = file.read()
                keys |= {key for key in KEYS if _has(tail, key)}
                keys |= _search(file, position, KEYS - keys) if keys else set()
    except OSError:
        return Peek(frozenset(), ())

    # Take the first file names from the beginning
    names = text.partition('"images"')[2].partition('"annotations"')[0]
    found = (match[1] for match in _FILE_NAME.finditer(names))
    return Peek(frozenset(keys), tuple(_unquoted(found)))


def _search(file: BinaryIO, position: int, missing: frozenset[str]) -> set[str]:
    """Return which keys stand further on in a file: some tools write a list of millions before them."""
    found: set[str] = set()
    file.seek(position)
    rest = b""
    while found != missing and (chunk := file.read(_CHUNK_BYTES)):
        found |= {key for key in missing - found if _has(rest + chunk, key)}
        rest = chunk[-_OVERLAP_BYTES:]
    return found


def _unquoted(texts: Iterable[str]) -> Iterator[str]:
    """Yield the first of JSON's texts."""
    for text in itertools.islice(texts, _MAX_NAMES):
        try:
            yield str(json.loads(text))
        except ValueError:
            continue


def _has(content: bytes, key: str) -> bool:
    """Return whether JSON text has a key, at whatever depth."""
    quoted = f'"{key}"'.encode()
    start = content.find(quoted)
    while start >= 0:
        if _COLON.match(content, start + len(quoted)):
            return True
        start = content.find(quoted, start + 1)
    return False


def _to_split(root: Path, path: str, peek: Peek, files: FileList) -> Split:
    """Return the split of an annotation file: what it is called and for, and where its images seem to be."""
    owner = _owner(path)
    try:
        directory = choose_directory(peek.file_names, owner, files)
        if directory is None:
            directory = place_images(peek.file_names, owner, files).directory
    except DatasetError:  # which is said when it is read
        directory = owner.directory
    format: Format = "roboflow" if Path(path).name == ROBOFLOW_NAME else "coco"
    return Split(owner.role, owner.name, format, root, root / directory, root / path)


def _owner(path: str) -> Owner:
    """Return what an annotation file is called and for, which its own name says, or else the nearest directory's."""
    *directories, file = path.split("/")
    parts = [Path(file).stem, *reversed(directories)]
    role = next((role for part in parts if (role := role_of(part))), None)
    if file == ROBOFLOW_NAME and directories:
        name = directories[-1]
    else:
        name = next((name for part in parts if (name := _bare(part))), parts[0])
    return Owner("/".join(directories), name, role)


def _bare(name: str) -> str:
    """Return a file's or directory's name without the words that name no split."""
    words = re.split(r"[_\-. ]+", name)
    return "_".join(word for word in words if word.lower() not in _SAYS_NOTHING and word)


def _settle_roles(splits: Sequence[Split]) -> Iterator[Split]:
    """Yield the splits so that each role is with the files that are named best for it; others keep none.

    Where no name says anything, the file that is named best is for training: `annotations.json`, where there is
    `annotations_unofficial.json` as well.
    """
    best = [split for split in splits if _suits(split) == min(map(_suits, splits))]
    for split in splits:
        rivals = [rival for rival in splits if rival.role == split.role]
        if [split] == best and len(rivals) == len(splits) and split.role is None:
            yield replace(split, role="train", name="train")
        elif split.role is not None and _suits(split) > min(map(_suits, rivals)):
            yield replace(split, role=None)
        else:
            yield split


def _suits(split: Split) -> tuple[bool, bool, bool, bool, int]:
    """Return how far the name of an annotation file is from that of its role's boxes, the nearest first."""
    stem, is_roboflow = split.annotations.stem, split.format == "roboflow"
    is_usual = is_roboflow or re.fullmatch(r"(instances_)?[A-Za-z]+\d*", stem) is not None
    is_part = re.search("trainval|minival|minitrain", split.place, re.IGNORECASE) is not None
    return bool(_OTHER_TASKS.search(stem)), is_part, not is_usual, not is_roboflow, len(split.annotations.parts)
