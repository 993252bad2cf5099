"""What describes a YOLO dataset: a YAML of any name, Darknet's `obj.data`, or a bare list of classes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from rfdetr_hwd.data.findings import DatasetError, shown
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import ROLES, Role, role_of
from rfdetr_hwd.data.text_file import decode_text, read_bytes
from rfdetr_hwd.data.yolo.yaml import MAX_YAML_BYTES, Value, read_text, read_values

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml")
CLASS_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "labels.txt", "predefined_classes.txt")
MAX_CLASSES = 100_000
_MAX_DEPTH = 2
_MAX_CANDIDATES = 100
_SPLIT_KEYS = ("train", "training", "trainval", "val", "valid", "validation", "test", "testing")
_KEYS = (*_SPLIT_KEYS, "path", "names", "nc", "kpt_shape")
_HINT = re.compile(r"\b(train|training|trainval|val|valid|validation|test|names|nc)['\"]?\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class Description:
    """What a file says about a YOLO dataset.

    Attributes:
        where: The file.
        home: Its directory below the root, `""` being the root: paths begin there.
        classes: Class numbers and names.
        content: Bytes that the fingerprint of the dataset covers.
        entries: What it says of each split: directories, lists of images, images.
        base: What comes before the entries (`path:`).
        pose: Keypoints of an object and values of a keypoint, where labels hold keypoints.
        wrong_count: What is wrong with the number of classes.
        notes: What was assumed, as sentences.
    """

    where: Path
    home: str
    classes: tuple[tuple[int, str], ...]
    content: bytes
    entries: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    base: str | None = None
    pose: tuple[int, int] | None = None
    wrong_count: str = ""
    notes: tuple[str, ...] = ()


def read_descriptions(root: Path, files: FileList) -> Iterator[tuple[str, Description | DatasetError]]:
    """Yield what describes a dataset, or what is wrong with a file that should, the likeliest first.

    Files nearer to the root come first, YAML before Darknet's `obj.data`, and usual names before others.
    """
    found = [
        *((name, read_yaml_description) for name in _candidates(files, (".yaml", ".yml"), YAML_NAMES)),
        *((name, read_darknet_description) for name in _candidates(files, (".data",), ("obj.data",))),
    ]
    for name, read in sorted(found, key=lambda pair: pair[0].count("/")):
        try:
            description = read(root, name, files)
        except DatasetError as error:
            yield name, error
            continue
        if description is not None:
            yield name, description


def read_yaml_description(root: Path, name: str, files: FileList) -> Description | None:
    """Read a YAML that describes a YOLO dataset; none where it is about something else.

    Args:
        root: Directory of the dataset.
        name: The file, below the root.
        files: All files below the root.

    Raises:
        DatasetError: It describes one, and is wrong; or it has a usual name, and cannot be read.
    """
    # Look for the words of a description before parsing: a dataset may hold many other YAML files
    path, is_usual = root / name, PurePosixPath(name).name.lower() in YAML_NAMES
    if not is_usual and not _HINT.search(read_text(path)[0]):
        return None

    # Decide whether it describes a dataset
    values = read_values(path, _KEYS)
    splits = {key: value for key, value in values.items() if key in _SPLIT_KEYS and value}
    has_names = bool(values.get("names") or values.get("nc"))
    if not (splits and has_names) and not (is_usual and (splits or "names" in values or "nc" in values)):
        return None
    home = _parent(name)
    classes, notes, content = _find_classes(path, values, home, files)
    return Description(
        where=path,
        home=home,
        classes=classes,
        content=read_bytes(path, MAX_YAML_BYTES) + content,
        entries={role: entries for role in ROLES if (entries := _entries(splits, role, path)) is not None},
        base=_as_text(values.get("path"), path, "path"),
        pose=_pose(values.get("kpt_shape"), path),
        wrong_count=_wrong_count(values, classes),
        notes=notes,
    )


def read_darknet_description(root: Path, name: str, files: FileList) -> Description | None:
    """Read Darknet's `key = value` lines; none where they are about something else.

    Args:
        root: Directory of the dataset.
        name: The file, below the root.
        files: All files below the root.

    Raises:
        DatasetError: It describes a dataset, and is wrong.
    """
    path = root / name
    try:
        content = read_bytes(path, MAX_YAML_BYTES)
        lines = [line.split("#")[0].split("=", 1) for line in decode_text(content).splitlines()]
    except (OSError, ValueError):
        return None
    values: dict[str, Value] = {pair[0].strip().lower(): pair[1].strip() for pair in lines if len(pair) == 2}
    splits = {key: value for key, value in values.items() if key in _SPLIT_KEYS and value}
    if not splits or not (values.get("names") or values.get("classes")):
        return None
    home = _parent(name)

    # Darknet's `classes` is the YAML's `nc`
    values["nc"] = values.get("classes")
    classes, notes, names_content = _find_classes(path, values, home, files)
    entries = {role: entries for role in ROLES if (entries := _entries(splits, role, path)) is not None}
    wrong_count = _wrong_count(values, classes)
    return Description(path, home, classes, content + names_content, entries, wrong_count=wrong_count, notes=notes)


def read_class_list(root: Path, name: str) -> Description:
    """Read a file that names a class on each line.

    Raises:
        DatasetError: It cannot be read, or names none.
    """
    path = root / name
    classes, content = _read_names(path)
    return Description(path, _parent(name), classes, content)


def number_classes(where: Path, highest: int) -> Description:
    """Return a description of classes that no file names, called as Ultralytics calls them.

    Args:
        where: What the labels lie in, for messages.
        highest: The highest class number in the labels.

    Raises:
        DatasetError: There cannot be so many classes.
    """
    if not 0 <= highest < MAX_CLASSES:
        raise DatasetError(
            f"{where} has labels, but no file names their classes: add a classes.txt with a name on each line"
        )
    classes = _numbered(highest + 1)
    note = f"no file, such as classes.txt, names the classes: they are called class_0 to class_{highest}"
    return Description(where, "", classes, b"", notes=(note,))


def _numbered(count: int) -> tuple[tuple[int, str], ...]:
    return tuple((number, f"class_{number}") for number in range(count))


def class_lists(files: FileList) -> list[str]:
    """Return the files that list classes, the likeliest first."""
    usual = {name: rank for rank, name in enumerate(CLASS_LISTS)}
    found = [name for name in files.names if _base(name) in usual or _base(name).endswith(".names")]
    return sorted(found, key=lambda name: (name.count("/"), usual.get(_base(name), len(usual)), name))


def _candidates(files: FileList, suffixes: tuple[str, ...], usual: tuple[str, ...]) -> list[str]:
    found = [n for n in files.names if n.lower().endswith(suffixes) and n.count("/") <= _MAX_DEPTH]
    rank = {name: place for place, name in enumerate(usual)}
    found.sort(key=lambda name: (name.count("/"), rank.get(_base(name), len(rank)), name))
    return found[:_MAX_CANDIDATES]


def _entries(splits: Mapping[str, Value], role: Role, path: Path) -> tuple[str, ...] | None:
    """Return what the keys of a role name; `val` counts more than `valid`. None where there is no such key."""
    keys = sorted((key for key in splits if role_of(key) == role), key=lambda key: (key != role, key))
    if not keys:
        return None
    entry = splits[keys[0]]
    texts = [entry] if isinstance(entry, str) else entry
    if not isinstance(texts, list):
        raise DatasetError(f"{path}: {keys[0]} must be a directory or a list of directories, not {shown(entry)}")
    return tuple(text.strip() for text in texts if text.strip())


def _find_classes(
    path: Path, values: Mapping[str, Value], home: str, files: FileList
) -> tuple[tuple[tuple[int, str], ...], tuple[str, ...], bytes]:
    """Return classes, what was assumed, and the content of a further file that was read."""
    names, count = values.get("names"), _whole(values.get("nc"))
    if isinstance(names, list) and names:
        return tuple(enumerate(names)), (), b""
    if isinstance(names, dict) and names:
        return _numbers(names, path), (), b""
    listed = _listed_in(names, home, files) if isinstance(names, str) else None
    if names is None or names in ([], {}):
        beside = [name for name in class_lists(files) if _parent(name) in (home, "")]
        listed = beside[0] if beside else None
    if listed:
        classes, content = _read_names(files.root / listed)
        return classes, (f"the classes are those of {listed}",), content
    if names is None and count is not None and 0 < count <= MAX_CLASSES:
        note = f"{path.name} has no names: the {count} classes are called class_0 to class_{count - 1}"
        return _numbered(count), (note,), b""
    raise DatasetError(f"{path}: names must list the classes, not {shown(names)}")


def _numbers(names: Mapping[str, str], path: Path) -> tuple[tuple[int, str], ...]:
    classes: dict[int, str] = {}
    for key, name in names.items():
        number = _whole(key)
        if number is None or abs(number) >= 1 << 31:
            raise DatasetError(f"{path}: names must give a name to each class number, as `0: cat`, not to {shown(key)}")
        if number in classes:
            raise DatasetError(f"{path}: names has the class number {number} twice")
        classes[number] = name
    return tuple(sorted(classes.items()))


def _read_names(path: Path) -> tuple[tuple[tuple[int, str], ...], bytes]:
    """Return the classes of a file with a name on each line, and its content; its last lines may be blank."""
    try:
        content = read_bytes(path, MAX_YAML_BYTES)
        lines = [line.strip() for line in decode_text(content).rstrip().splitlines()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read the classes from {path}: {error}") from None
    if not lines:
        raise DatasetError(f"{path} must name a class on each line, but is empty")
    return tuple(enumerate(lines)), content


def _listed_in(names: str, home: str, files: FileList) -> str | None:
    """Return the file that `names` points to, as Darknet's does; it may be named from another directory."""
    parts = [part for part in names.strip().replace("\\", "/").split("/") if part not in ("", ".", "..")]
    places = ["/".join([*start, *parts[skip:]]) for skip in range(len(parts)) for start in ([home] if home else [], [])]
    return next((place for place in places if place in files.names), None)


def _wrong_count(values: Mapping[str, Value], classes: tuple[tuple[int, str], ...]) -> str:
    count = values.get("nc")
    if count is None or _whole(count) in (len(classes), classes[-1][0] + 1):
        return ""
    return (
        f"nc is {shown(_whole(count) if _whole(count) is not None else count)}, but names lists {len(classes)} classes"
    )


def _pose(value: Value, path: Path) -> tuple[int, int] | None:
    if value is None:
        return None
    numbers = [_whole(item) for item in value] if isinstance(value, list) else []
    if len(numbers) != 2 or numbers[0] is None or not 0 < numbers[0] <= 10_000 or numbers[1] not in (2, 3):
        raise DatasetError(f"{path}: kpt_shape must be [number of keypoints, 2 or 3], not {shown(value)}")
    return numbers[0], numbers[1]


def _as_text(value: Value, path: Path, key: str) -> str | None:
    if value is None or isinstance(value, str):
        return (value or "").strip() or None
    raise DatasetError(f"{path}: {key} must be a directory, not {shown(value)}")


def _whole(value: Value) -> int | None:
    """Return a whole number that is written as text, `2` or `2.0`."""
    try:
        number = float(value) if isinstance(value, str) and len(value) < 32 else float("nan")
    except ValueError:
        return None
    return int(number) if number == number and abs(number) < 1 << 53 and number == int(number) else None


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _base(name: str) -> str:
    return name.rpartition("/")[2].lower()
