"""Find the image files that an annotation file names: which directory its names begin in, and names that differ.

Names are written on other machines, by tools that know where the images were then. Most begin in one directory of the
dataset: that is looked for first. A name that is not there may differ from the file in case, slashes, Unicode form,
URL quoting or the directories before it; it is resolved where one file alone can be meant, and that is said.
"""

import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from rfdetr_hwd.data.files import FileList
from rfdetr_hwd.data.findings import DatasetError, shown
from rfdetr_hwd.data.inventory import describe_images
from rfdetr_hwd.data.layout import enumerate_some
from rfdetr_hwd.data.roles import Role, role_of

_SAMPLE = 50
_FEW = 500  # directories, of which each is looked into
_IMAGE_DIRECTORIES = ("images", "image", "imgs", "img", "jpegimages", "data", "photos", "pictures", "frames")
_LOOKALIKES = re.compile(r"mask|label|annot|segment|depth|thumb|backup|old|copy|trash", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*/(.*)", re.DOTALL)


class Owner(NamedTuple):
    """The annotation file whose images are looked for.

    Attributes:
        directory: Where it lies below the root, `""` being the root.
        name: Name of its split.
        role: What the split is for, if its name says so.
    """

    directory: str
    name: str
    role: Role | None


class Places(NamedTuple):
    """Where the images of an annotation file are.

    Attributes:
        directory: Where their paths begin, below the root.
        paths: By the name in the annotations its path from `directory`, where that is another.
        resolved: Names that differ from the file that is there, beyond where they begin.
        hints: By the path of an image that is missing, what is there in its stead.
    """

    directory: str
    paths: dict[str, str]
    resolved: tuple[str, ...]
    hints: dict[str, str]


def choose_directory(names: Sequence[str], owner: Owner, files: FileList) -> str | None:
    """Return the directory that the names of an annotation file begin in; none where it holds none of them.

    Directories are compared by what they are called beside the annotation file, and the first that holds half of the
    names is taken, or else the one that holds most.

    Args:
        names: File names as they are annotated, all or a sample.
        owner: The annotation file.
        files: The files below the root.

    Raises:
        DatasetError: Two directories hold the same names, and neither is called as if it were meant.
    """
    wanted = [_plain(name) for name in names]
    candidates = _candidates(wanted, owner, files)
    there = files.names | files.escaping
    hits = {directory: sum(_join(directory, name) in there for name in wanted) for directory in candidates}
    ranks = {directory: (_rank(directory, owner), -hits[directory]) for directory in candidates}
    good = [directory for directory in candidates if 2 * hits[directory] >= len(wanted) > 0]
    some = [directory for directory in candidates if hits[directory]]
    if not some:
        return None
    best = min(good or some, key=lambda d: (*ranks[d], d) if good else (-hits[d], *ranks[d], d))
    rivals = [d for d in some if ranks[d] == ranks[best]]
    if any(sum(_join(d, name) in there for d in rivals) > 1 for name in wanted if len(rivals) > 1):
        raise DatasetError(
            f"the images of {owner.name} may be those in {' or '.join(repr(d) for d in sorted(rivals))}: the same "
            "names are in both. Say which, as {annotations: FILE, images: DIRECTORY}"
        )
    return best


def place_images(names: Sequence[str], owner: Owner, files: FileList) -> Places:
    """Find the files of all images of an annotation file; see the module's description.

    A name with `..`, or one that a link leads out of the dataset, is never resolved. Two names never become one file.

    Args:
        names: File names as they are annotated.
        owner: The annotation file.
        files: The files below the root.

    Raises:
        DatasetError: Which directory is meant cannot be told.
    """
    directory = choose_directory(names, owner, files)
    begin = owner.directory if directory is None else directory
    places = {name: _join(begin, _plain(name)) for name in names}
    missing = [name for name, path in places.items() if path not in files.names and not files.leads_out(path)]
    if not missing:
        return Places(begin, {}, (), {})
    search = _Search(files, owner, begin)
    found: dict[str, str] = {}
    hints: dict[str, str] = {}
    for name in missing:
        path, hints[name] = search.find(name)
        if path:
            found[name] = path
    claims = Counter({**places, **found}.values())
    for name, path in list(found.items()):
        if claims[path] > 1:
            hints[name] = f"{shown(path)} would fit, and another image claims it, too"
            del found[name]
    resolved = tuple(found)
    if directory is None and not found:
        there = enumerate_some(list(describe_images(files))) or "no images"
        lost = f"none of the {len(names)} images that it names is below {files.root}, where there are {there}"
        hints = {name: f"{lost}: say where they are, as {{annotations: FILE, images: DIRECTORY}}" for name in missing}
    folders = {path.rpartition("/")[0] for path in found.values()}
    top = _common([begin, *folders] if directory is not None or not found else [*folders])
    if top != begin:  # all names begin elsewhere, also of those that are missing and may be there by chance
        found = {**{name: path for name, path in places.items() if _is_relative(name)}, **found}
    paths = {name: _from(top, path) for name, path in found.items()}
    named = {paths.get(name, name): hint for name, hint in hints.items() if hint}
    return Places(top, paths, resolved, named)


def _candidates(wanted: Sequence[str], owner: Owner, files: FileList) -> set[str]:
    """Return directories below which some of the names are, and those that are looked into first."""
    sample = wanted[:: max(1, len(wanted) // _SAMPLE)]
    begins = {owner.directory, ""}
    if len(files.image_counts) <= _FEW:
        above = {str(parent) for folder in files.image_counts for parent in PurePosixPath(folder, "x").parents}
        return begins | {d for d in above - {"."} if any(_join(d, name) in files.names for name in sample)}
    for name in sample:
        for path in files.by_basename.get(name.rpartition("/")[2], ()):
            if path == name or path.endswith(f"/{name}"):
                begins.add(path[: -len(name)].rstrip("/"))
    return begins


def _rank(directory: str, owner: Owner) -> tuple[int, bool, bool, int]:
    """Return how well a directory suits an annotation file by what it is called, the best first."""
    parts = directory.split("/") if directory else []
    roles = {role_of(part) for part in parts} - {None}
    last = parts[-1].casefold() if parts else ""
    if directory == owner.directory:
        tier = 0
    elif owner.role and owner.role in roles or last == owner.name.casefold():
        tier = 1
    elif owner.role and roles:
        tier = 5
    elif last in _IMAGE_DIRECTORIES:
        tier = 2
    else:
        tier = 4 if parts else 3
    return tier, last not in _IMAGE_DIRECTORIES, bool(_LOOKALIKES.search(last)), len(parts)


class _Search:
    """Looks for names that are not where the others are."""

    def __init__(self, files: FileList, owner: Owner, begin: str) -> None:
        self.files, self.owner, self.begin = files, owner, begin
        self.by_key: defaultdict[str, list[str]] = defaultdict(list)
        self.by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(files.names):
            if not self._is_of_another_split(path):
                name = _key(path).rpartition("/")[2]
                self.by_key[name].append(path)
                self.by_stem[name.rpartition(".")[0]].append(path)
        folders = {path.rpartition("/")[0] for path in files.names}
        self.folders = {_key(folder) for folder in folders}
        for folder in folders:
            self.folders.update(_key(str(parent)) for parent in PurePosixPath(folder).parents)

    def find(self, name: str) -> tuple[str, str]:
        """Return the path that is meant, or an empty text and what may help to find it."""
        parts = _parts(name)
        if ".." in parts or "\0" in name or not parts:
            return "", self._look_up(name)
        found: list[str] = []
        for variant in dict.fromkeys([tuple(parts), tuple(map(unquote, parts))]):
            found = found or self._fitting(variant)
        if len(found) == 1:
            return found[0], ""
        if found:
            return "", f"it may be any of {shown(sorted(found))}"
        last = _key(parts[-1])
        others = self.by_key.get(last) or self.by_stem.get(last.rpartition(".")[0])
        if others:
            return "", f"there is {shown(others[0])}"
        return "", "an address cannot be read, only files" if _URL.match(name) else ""

    def _fitting(self, parts: tuple[str, ...]) -> list[str]:
        """Return the files that a name fits best: with most of its last parts in common."""
        keys = [_key(part) for part in parts]
        home = self._home(keys)
        lengths = {
            path: length
            for path in self.by_key.get(keys[-1], ())
            if _key(path).startswith(home) and (length := _common_tail(_key(path).split("/"), keys))
        }
        if not lengths:
            return []
        most = max(lengths.values())
        paths = [path for path, length in lengths.items() if length == most]
        begins = {path: "/".join(path.split("/")[:-most]) for path in paths}
        ranks = {path: (begins[path] != self.begin, _rank(begins[path], self.owner)) for path in paths}
        best = [path for path in paths if ranks[path] == min(ranks.values())]
        exact = [path for path in best if path.split("/")[-1] == parts[-1]]
        return exact or best

    def _home(self, keys: list[str]) -> str:
        """Return the directory that a name speaks of, if it is there: the file is in it or nowhere."""
        for start in range(len(keys) - 1):
            for above in dict.fromkeys((_key(self.begin), "")):
                folder = _join(above, "/".join(keys[start:-1]))
                if folder in self.folders:
                    return f"{folder}/"
        return ""

    def _is_of_another_split(self, path: str) -> bool:
        role = self.owner.role
        if role is None or (self.begin and path.startswith(f"{self.begin}/")):
            return False
        roles = {role_of(part) for part in path.split("/")[:-1]} - {None}
        return bool(roles) and role not in roles

    def _look_up(self, name: str) -> str:
        """Return where a name with `..` leads, if that is in the dataset."""
        path = posixpath.normpath(_join(self.owner.directory, name.replace("\\", "/")))
        if path not in self.files.names:
            path = next(iter(self.by_key.get(_key(path).rpartition("/")[2], ())), "")
        return f"if {shown(path)} is meant, write that" if path else ""


def _parts(name: str) -> list[str]:
    """Return the parts of a name as any tool may have written it: a path of any system, or an address."""
    text = name.replace("\\", "/")
    url = _URL.match(text)
    if url:
        text = re.split(r"[?#]", url[1])[0]
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return parts[1:] if parts and re.fullmatch(r"[A-Za-z]:", parts[0]) else parts


def _key(text: str) -> str:
    """Return what is the same for paths that differ in case, Unicode form or the kind of slashes alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).replace("\\", "/")


def _plain(name: str) -> str:
    """Return a path without ./ and //."""
    return str(PurePosixPath(name))


def _is_relative(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _from(directory: str, path: str) -> str:
    """Return a path below the root as it is from a directory that it is in."""
    return path[len(directory) + 1 :] if directory else path


def _common(directories: Sequence[str]) -> str:
    """Return the deepest directory that all of them are in."""
    return posixpath.commonpath([f"/{directory}" for directory in directories])[1:]


def _common_tail(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many last parts two paths have in common."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
