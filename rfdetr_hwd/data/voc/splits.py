"""The splits of a Pascal VOC dataset: by the lists of ImageSets, by the directories' names, or all images as one."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rfdetr_hwd.data.findings import DatasetError, shown
from rfdetr_hwd.data.images import check_file
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import ROLES, Role
from rfdetr_hwd.data.voc.pairs import Pairs, directory_role, find_labels, key_of, name_of, pair_files, stem_of

_LIST = re.compile(r"(?:(.*)/)?ImageSets/(?:Main/)?([^/]+)\.txt", re.IGNORECASE)
_PLAIN_LIST = re.compile(r"(?:(.*)/)?((?:train|training|trainval|val|valid|validation|test)(?:_?list)?)\.txt", re.I)
_FLAGS = ("-1", "0", "1")
_MAX_LIST_BYTES = 256 << 20
_MIN_LISTED = 0.5  # of the lines of a text file name images: else it is no list of them


class Entry(NamedTuple):
    """An image of a split, or what cannot be used.

    Attributes:
        image: Path of the image below the root; empty where there is none.
        label: Path of its annotation file; empty where there is none.
        kind: Kind of finding that skips it; empty where it can be used.
        reason: Why.
        where: Path of what is wrong.
    """

    image: str
    label: str
    kind: str = ""
    reason: str = ""
    where: str = ""


class VocSplit(NamedTuple):
    """A split of a Pascal VOC dataset.

    Attributes:
        role: What it is for; `None`: it is used only if it is named.
        name: Its name.
        place: The list or the directory that it comes from, below the root; empty where it is the root, or several.
        entries: Its images, and what cannot be used.
    """

    role: Role | None
    name: str
    place: str
    entries: tuple[Entry, ...]


class VocSplits(NamedTuple):
    """What there is of a Pascal VOC dataset.

    Attributes:
        splits: Its splits.
        pairs: Which annotation file belongs to which image.
        notes: What is there and not used, as sentences.
    """

    splits: tuple[VocSplit, ...]
    pairs: Pairs
    notes: tuple[str, ...]


class _List(NamedTuple):
    """A list of images: the directory whose images it lists, its name, its path, and its lines."""

    home: str
    name: str
    path: str
    lines: list[str]


def find_voc_splits(root: Path, files: FileList) -> VocSplits | None:
    """Find the splits of a Pascal VOC dataset; none where there is no XML of it.

    Lists in `ImageSets/Main`, `ImageSets` or beside the image directory decide, where there are any. `trainval` without
    `train` is for training, without what `val` lists. Several years below one directory are read as one dataset.
    Without lists, directories of the usual names decide (`train`, `Validation`, `test_images`); the rest is for
    training where none of them is. A split without any annotation file is none. A single one whose name says nothing
    (`default`) is for training.

    Args:
        root: Directory of the dataset.
        files: The files below it.

    Raises:
        DatasetError: A list cannot be read.
    """
    labels = find_labels(root, files)
    if not labels:
        return None

    # Group the images by lists, or else by directories
    pairs = pair_files(root, files, labels)
    lists = _find_lists(root, files, pairs)
    splits = list(_listed_splits(lists, pairs) if lists else _directory_splits(pairs))

    # Keep the splits that have annotations
    annotated = [split for split in splits if any(entry.label for entry in split.entries)]
    if [split.role for split in annotated] == [None]:
        annotated = [annotated[0]._replace(role="train")]

    # Report the others
    notes = [
        f"{split.place or split.name}: its {len(split.entries)} images have no annotation files"
        for split in splits
        if not any(entry.label for entry in split.entries)
    ]
    return VocSplits(tuple(annotated), pairs, (*notes, *_unused(pairs, annotated), *_joined(lists)))


def splits_apart(root: Path, files: FileList, images: str, labels: str) -> VocSplits:
    """Return what is in a directory of images and one of annotation files that are named apart, as one split.

    Args:
        root: Directory of the dataset.
        files: The files below it.
        images: Path of the one below it; empty for the root.
        labels: Path of the other.
    """
    # Restrict the dataset to the two directories
    prefixes = tuple(f"{place}/" if place else "" for place in (images, labels))
    names, escaping = (frozenset(n for n in group if n.startswith(prefixes)) for group in (files.names, files.escaping))
    inside = [name for name in find_labels(root, files) if name.startswith(prefixes[1])]
    pairs = pair_files(root, FileList(root, names, escaping), inside)
    paths = [image for image in pairs.labels if image.startswith(prefixes[0])]
    entries = tuple(_to_entry(path, pairs) for path in (*paths, *pairs.without_image))
    return VocSplits((VocSplit(None, labels, labels, entries),), pairs, ())


def _find_lists(root: Path, files: FileList, pairs: Pairs) -> list[_List]:
    """Return the lists; of two with one name for the same images, that in `ImageSets` counts, and that in `Main`."""
    paths: dict[tuple[str, str], str] = {}
    for pattern in (_PLAIN_LIST, _LIST):
        for path in sorted(files.names, key=lambda path: ("/main/" in path.lower(), path)):
            if (match := pattern.fullmatch(path)) and (pattern is _LIST or not _LIST.fullmatch(path)):
                name = match[2] if pattern is _LIST else re.sub(r"_?list$", "", match[2], flags=re.I)
                paths[match[1] or "", name] = path
    keys = {key for image in pairs.labels for key in (key_of(stem_of(image)), key_of(name_of(image)))}
    lists = []
    for (home, name), path in paths.items():
        lines = _read_lines(root / path)
        hits = sum(any(key in keys for spelling in _spellings(line) for key in _keys(spelling)) for line in lines)
        is_list = bool(_LIST.fullmatch(path)) or hits >= _MIN_LISTED * len(lines) > 0
        base = name.rpartition("_")[2]
        of_class = base != name and (home, base) in paths and all(line.split()[-1] in _FLAGS for line in lines)
        if is_list and not of_class:  # `dog_train` says of each image of `train` whether a dog is in it
            lists.append(_List(home, name, path, lines))
    return lists


def _read_lines(path: Path) -> list[str]:
    """Return the lines of a list that are not blank, each once."""
    try:
        check_file(path)
        if path.stat().st_size > _MAX_LIST_BYTES:
            raise DatasetError(f"{path} is larger than {_MAX_LIST_BYTES >> 20} MiB")
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        raise DatasetError(f"cannot read the list of images {path}: {error.strerror or error}") from None
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def _spellings(line: str) -> Iterator[str]:
    """Yield what a line of a list may name: all of it, and what is left without a flag or a second column."""
    plain = line.replace("\\", "/")
    yield plain
    words = plain.split()
    if len(words) > 1:
        if words[-1] in _FLAGS:
            yield plain[: -len(words[-1])].rstrip()
        yield words[0]


def _keys(spelling: str) -> tuple[str, str]:
    """Return what an image of that spelling is found by: the whole name, which may be a stem with dots, or its stem."""
    return key_of(name_of(spelling)), key_of(stem_of(spelling))


def _listed_splits(lists: Sequence[_List], pairs: Pairs) -> Iterator[VocSplit]:
    """Yield the splits that lists name, joined over the directories that have lists of their own."""
    parts: dict[tuple[Role | None, str], list[VocSplit]] = {}
    for home in dict.fromkeys(item.home for item in lists):
        by_key: dict[str, list[str]] = {}
        for path in (*pairs.labels, *pairs.without_image):
            if not home or path.startswith(f"{home}/"):
                for key in dict.fromkeys(_keys(path)):
                    by_key.setdefault(key, []).append(path)
        splits = []
        for item in lists:
            if item.home == home:
                entries = (entry for line in item.lines for entry in _resolve(line, by_key, pairs, item.path))
                splits.append(VocSplit(None, item.name.lower(), item.path, tuple(dict.fromkeys(entries))))
        for split in _with_roles(splits):
            parts.setdefault((split.role, "" if split.role else split.name), []).append(split)
    for (role, _), (first, *others) in parts.items():
        entries = (entry for split in (first, *others) for entry in split.entries)
        name = first.name if all(split.name == first.name for split in others) else str(role)
        yield VocSplit(role, name, "" if others else first.place, tuple(dict.fromkeys(entries)))


def _with_roles(splits: Sequence[VocSplit]) -> Iterator[VocSplit]:
    """Yield the lists of one directory with what they are for; `trainval` stands in for one of its parts."""
    usual: dict[Role | None, VocSplit] = {}
    for split in splits:
        if split.name != "trainval":
            usual.setdefault(directory_role(split.name), split)
    for split in splits:
        role = next((role for role in ROLES if usual.get(role) is split), None)
        if split.name == "trainval" and not (usual.get("train") and usual.get("val")):
            role, other = ("val", usual["train"]) if usual.get("train") else ("train", usual.get("val"))
            listed = set(other.entries) if other else set()
            split = split._replace(entries=tuple(entry for entry in split.entries if entry not in listed))
        yield split._replace(role=role)


def _resolve(line: str, by_key: Mapping[str, Sequence[str]], pairs: Pairs, place: str) -> list[Entry]:
    """Return the images that a line of a list names, and what cannot be used of that name."""
    for spelling in _spellings(line):
        for key in _keys(spelling):
            paths = by_key.get(key, ())
            ending = "/" + "/".join(part for part in spelling.split("/") if part not in ("", ".", ".."))
            paths = [path for path in paths if f"/{path}".endswith(ending)] or paths
            used = [path for path in paths if pairs.labels.get(path)]
            skipped = [path for path in paths if path in pairs.problems]
            if (
                chosen := [*used, *skipped]
                or [path for path in paths if pairs.is_beside_annotated(path)]
                or list(paths)
            ):
                return [_to_entry(path, pairs) for path in dict.fromkeys(chosen)]
    return [Entry("", "", "missing_file", f"lists {shown(line)}, but there is no image of that name", place)]


def _to_entry(path: str, pairs: Pairs) -> Entry:
    """Return the entry of an image, or of an annotation file that has none."""
    is_image = path in pairs.labels
    label = pairs.labels[path] if is_image else path
    where = path if path in pairs.problems else label
    kind, reason = pairs.problems.get(where, ("", ""))
    return Entry(path if is_image else "", label, kind, reason, where)


def _directory_splits(pairs: Pairs) -> Iterator[VocSplit]:
    """Yield a split for each directory of a usual name; the rest is for training where none of them is."""
    paths = [image for image in pairs.labels if pairs.is_beside_annotated(image)]  # others are no background
    paths += pairs.without_image
    groups: dict[Role | None, dict[str, str]] = {}
    for path in paths:
        entry = _to_entry(path, pairs)
        place = _role_place(entry.image) or _role_place(entry.label)
        groups.setdefault(directory_role(name_of(place)), {})[path] = place
    rest = groups.pop(None, {})
    if "train" not in groups and rest:
        groups["train"] = rest
    for role in ROLES:
        if group := groups.get(role):
            place = Counter(group.values()).most_common(1)[0][0]
            entries = tuple(_to_entry(path, pairs) for path in group)
            yield VocSplit(role, name_of(place) or role, place, entries)


def _role_place(path: str) -> str:
    """Return the first directory of a path that has the usual name of a split; empty where there is none."""
    parts = path.split("/")[:-1]
    return next(("/".join(parts[: i + 1]) for i, part in enumerate(parts) if directory_role(part)), "")


def _unused(pairs: Pairs, splits: Iterable[VocSplit]) -> Iterator[str]:
    """Yield how many images no split has, with an annotation file and without."""
    used = {entry.image for split in splits for entry in split.entries if split.role}
    unused = [image for image in pairs.labels if image not in used]
    for what, is_annotated in (("with", True), ("without", False)):
        images = [image for image in unused if bool(pairs.labels[image]) == is_annotated]
        if images:
            yield f"{len(images)} images {what} annotation files are in no split, the first: {images[0]}"


def _joined(lists: Sequence[_List]) -> Iterator[str]:
    homes = dict.fromkeys(item.home or "." for item in lists)
    if len(homes) > 1:
        yield f"{', '.join(homes)} are read as one dataset"
