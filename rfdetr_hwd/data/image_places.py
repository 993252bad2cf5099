"""Find the image files that an annotation file names: which directory its names begin in, and names that differ.

Names are written on other machines, by tools that know where the images were then. Most begin in one directory of the
dataset: that is looked for first. A name that is not there may differ from the file in case, slashes, Unicode form,
URL quoting or the directories before it; it is resolved where one file alone can be meant, and that is said. A `..` is
never followed: what comes after it is looked for as any other name.
"""

import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from rfdetr_hwd.data.findings import shown
from rfdetr_hwd.data.image_directory import Owner, choose_directory, join_path, plain_path, rank_directory
from rfdetr_hwd.data.inventory import describe_images
from rfdetr_hwd.data.layout import enumerate_some
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import role_of

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*/(.*)", re.DOTALL)


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


def place_images(names: Sequence[str], owner: Owner, files: FileList) -> Places:
    """Find the files of all images of an annotation file; see the module's description.

    A name that a link leads out of the dataset is never resolved. Two names never become one file.

    Args:
        names: File names as they are annotated.
        owner: The annotation file.
        files: The files below the root.

    Raises:
        DatasetError: Which directory is meant cannot be told.
    """
    directory = choose_directory(names, owner, files)
    begin = owner.directory if directory is None else directory
    places = {name: join_path(begin, plain_path(name)) for name in names}
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
        lost += ": say where they are, as {annotations: FILE, images: DIRECTORY}"
        hints = {name: hints[name] or lost for name in missing}
    folders = {path.rpartition("/")[0] for path in found.values()}
    top = _common([begin, *folders] if directory is not None or not found else [*folders])
    if top != begin:  # all names begin elsewhere, also of those that are missing and may be there by chance
        found = {**{name: path for name, path in places.items() if _is_relative(name)}, **found}
    paths = {name: _from(top, path) for name, path in found.items()}
    named = {paths.get(name, name): hint for name, hint in hints.items() if hint}
    return Places(top, paths, resolved, named)


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
        if "\0" in name or not parts:
            return "", ""
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
        ranks = {path: (begins[path] != self.begin, rank_directory(begins[path], self.owner)) for path in paths}
        best = [path for path in paths if ranks[path] == min(ranks.values())]
        exact = [path for path in best if path.split("/")[-1] == parts[-1]]
        return exact or best

    def _home(self, keys: list[str]) -> str:
        """Return the directory that a name speaks of, if it is there: the file is in it or nowhere."""
        for start in range(len(keys) - 1):
            for above in dict.fromkeys((_key(self.begin), "")):
                folder = join_path(above, "/".join(keys[start:-1]))
                if folder in self.folders:
                    return f"{folder}/"
        return ""

    def _is_of_another_split(self, path: str) -> bool:
        role = self.owner.role
        if role is None or (self.begin and path.startswith(f"{self.begin}/")):
            return False
        roles = {role_of(part) for part in path.split("/")[:-1]} - {None}
        return bool(roles) and role not in roles


def _parts(name: str) -> list[str]:
    """Return the parts of a name as any tool may have written it, a path or an address, from after its last `..`."""
    text = name.replace("\\", "/")
    url = _URL.match(text)
    if url:
        text = re.split(r"[?#]", url[1])[0]
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return parts[1:] if parts and re.fullmatch(r"[A-Za-z]:", parts[0]) else parts


def _key(text: str) -> str:
    """Return what is the same for paths that differ in case, Unicode form or the kind of slashes alone."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).replace("\\", "/")


def _is_relative(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


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
