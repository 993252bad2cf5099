"""Find the image files that an annotation file names: the directory they are relative to, and names that differ.

Names are written on other machines. Most are relative to one directory of the dataset, which is searched first. A name
without a file may differ from it in case, slashes, Unicode form, URL quoting or leading directories. It is resolved if
only one file matches, and that is reported. A `..` is never followed: the parts after it are searched like any other
name.
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
        directory: The directory below the root that their paths are relative to.
        paths: Path of a name in the annotations, relative to `directory`, if it differs from the name.
        resolved: Names that differ from their file by more than leading directories.
        hints: Hints about missing images by their paths.
    """

    directory: str
    paths: dict[str, str]
    resolved: tuple[str, ...]
    hints: dict[str, str]


def place_images(names: Sequence[str], owner: Owner, files: FileList) -> Places:
    """Find the files of all images of an annotation file; see the module's description.

    Links out of the dataset are not resolved. Two names are not resolved to one file.

    Args:
        names: File names as they are annotated.
        owner: The annotation file.
        files: The files below the root.

    Raises:
        DatasetError: The directory is ambiguous.
    """
    # Take the directory where most names are files
    directory = choose_directory(names, owner, files)
    begin = owner.directory if directory is None else directory
    places = {name: join_path(begin, plain_path(name)) for name in names}
    missing = [name for name, path in places.items() if path not in files.names and not files.leads_out(path)]
    if not missing:
        return Places(begin, {}, (), {})

    # Search for the other names
    search = _Search(files, owner, begin)
    found: dict[str, str] = {}
    hints: dict[str, str] = {}
    for name in missing:
        path, hints[name] = search.find(name)
        if path:
            found[name] = path

    # Two names are never one file
    claims = Counter({**places, **found}.values())
    for name, path in list(found.items()):
        if claims[path] > 1:
            hints[name] = f"{shown(path)} would match, but another image matches it too"
            del found[name]

    # Explain that none was found
    resolved = tuple(found)
    if directory is None and not found:
        there = enumerate_some(list(describe_images(files))) or "no images"
        lost = f"none of the {len(names)} images that it names is below {files.root}, which contains {there}"
        lost += ". Specify their directory as {annotations: FILE, images: DIRECTORY}"
        hints = {name: hints[name] or lost for name in missing}

    # Write all paths from the directory that the found files have in common
    directories = {path.rpartition("/")[0] for path in found.values()}
    top = _common([begin, *directories] if directory is not None or not found else [*directories])
    if top != begin:  # all names are relative to another directory, also those of missing files
        found = {**{name: path for name, path in places.items() if _is_relative(name)}, **found}
    paths = {name: _from(top, path) for name, path in found.items()}
    named = {paths.get(name, name): hint for name, hint in hints.items() if hint}
    return Places(top, paths, resolved, named)


class _Search:
    """Searches for names without a file in the directory of the others."""

    def __init__(self, files: FileList, owner: Owner, begin: str) -> None:
        self.files, self.owner, self.begin = files, owner, begin
        self.by_key: defaultdict[str, list[str]] = defaultdict(list)
        self.by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(files.names):
            if not self._is_of_another_split(path):
                name = _key(path).rpartition("/")[2]
                self.by_key[name].append(path)
                self.by_stem[name.rpartition(".")[0]].append(path)
        directories = {path.rpartition("/")[0] for path in files.names}
        self.directories = {_key(directory) for directory in directories}
        for directory in directories:
            self.directories.update(_key(str(parent)) for parent in PurePosixPath(directory).parents)

    def find(self, name: str) -> tuple[str, str]:
        """Return the matching path, or an empty text and a hint."""
        parts = _parts(name)
        if "\0" in name or not parts:
            return "", ""
        found: list[str] = []
        for variant in dict.fromkeys([tuple(parts), tuple(map(unquote, parts))]):
            found = found or self._fitting(variant)
        if len(found) == 1:
            return found[0], ""
        if found:
            return "", f"several files match: {shown(sorted(found))}"
        last = _key(parts[-1])
        others = self.by_key.get(last) or self.by_stem.get(last.rpartition(".")[0])
        if others:
            return "", f"a similar file is {shown(others[0])}"
        return "", "URLs cannot be read, only files" if _URL.match(name) else ""

    def _fitting(self, parts: tuple[str, ...]) -> list[str]:
        """Return the files that match a name best: with most of its last parts in common."""
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
        """Return the existing directory that a name contains, if any: the file must be in it."""
        for start in range(len(keys) - 1):
            for above in dict.fromkeys((_key(self.begin), "")):
                directory = join_path(above, "/".join(keys[start:-1]))
                if directory in self.directories:
                    return f"{directory}/"
        return ""

    def _is_of_another_split(self, path: str) -> bool:
        role = self.owner.role
        if role is None or (self.begin and path.startswith(f"{self.begin}/")):
            return False
        roles = {role_of(part) for part in path.split("/")[:-1]} - {None}
        return bool(roles) and role not in roles


def _parts(name: str) -> list[str]:
    """Return the parts of a name after its last `..`. It may be a path of any operating system or a URL."""
    text = name.replace("\\", "/")
    url = _URL.match(text)
    if url:
        text = re.split(r"[?#]", url[1])[0]
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return parts[1:] if parts and re.fullmatch(r"[A-Za-z]:", parts[0]) else parts


def _key(text: str) -> str:
    """Return a key that is equal for paths that differ only in case, Unicode form or slashes."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).replace("\\", "/")


def _is_relative(name: str) -> bool:
    return not name.startswith("/") and ".." not in name.split("/")


def _from(directory: str, path: str) -> str:
    """Return a path below the root relative to one of its directories."""
    return path[len(directory) + 1 :] if directory else path


def _common(directories: Sequence[str]) -> str:
    """Return the deepest directory that all of them are in."""
    return posixpath.commonpath([f"/{directory}" for directory in directories])[1:]


def _common_tail(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the number of last parts that two paths have in common."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
