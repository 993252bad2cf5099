"""Find what the paths of a YOLO description mean: as Ultralytics and rfdetr read them, or else what is there.

Ultralytics joins `path:` and the entry, and takes off a leading `../` where that leads nowhere (Roboflow's exports need
it); rfdetr reads a `path:` that is not there as the root. Paths that were written on another machine, with a drive or
directories that were never here, mean what is here of the same name: the longest ending that fits. That is a guess, and
is said. Nothing outside the root is looked at.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal, NamedTuple

from rfdetr_hwd.data.findings import MAX_PATH_SHOWN, shown
from rfdetr_hwd.data.roles import Role, role_of

_DRIVE = re.compile(r"[A-Za-z]:")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

_Parts = tuple[str, ...]


class Found(NamedTuple):
    """What a path means.

    Attributes:
        name: The file or directory, below the root; `""` is the root.
        is_guess: Whether it is not where the path says, but has its name.
    """

    name: str
    is_guess: bool


class _Path(NamedTuple):
    """A path as it is written.

    Attributes:
        parts: Its parts, without drive, root and `.`; below the dataset's root where it is `rooted`.
        kind: `relative`, `rooted` (absolute, in the dataset) or `elsewhere` (absolute, not in it).
    """

    parts: _Parts
    kind: Literal["relative", "rooted", "elsewhere"]


class KnownPaths:
    """Files and directories that paths may mean.

    Args:
        names: Their paths below the root, with `/`; `""` is the root.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = names

    @cached_property
    def folded(self) -> dict[str, str | None]:
        """The paths by what they have in common with others that differ in case or Unicode form alone."""
        folded: dict[str, str | None] = {}
        for name in self.names:
            key = fold(name)
            folded[key] = name if key not in folded else None  # several are no answer
        return folded


class PathFinder:
    """Finds what paths mean.

    Args:
        root: Directory of the dataset.
        known: What they may mean.
        homes: Directories below the root where paths may begin, the likeliest first.
        base: What comes before every path (`path:`), as it is written.
    """

    def __init__(self, root: Path, known: KnownPaths, homes: Sequence[str], base: str | None = None) -> None:
        self._root, self._known, self._names = root, known, known.names
        self._homes = [_split(home) for home in homes]
        self._base_text, self._base = base or None, self._read(base) if base else None
        self._starts = list(self._find_starts())

    def find(self, text: str, role: Role | None = None) -> Found | None:
        """Return what a path means; none where nothing of its name is there.

        Args:
            text: The path as it is written.
            role: What it is for: a guess does not leave out the part that says so.
        """
        if "\\" in text and text in self._names:  # it is part of a name
            return Found(text, False)
        if _ADDRESS.match(text):
            return None
        for place in self.places(text):
            if place in self._names:
                return Found(place, False)
        guesses = list(self._guesses(self._read(text), role))
        name = next((place for place in guesses if place in self._names), None)
        if name is None:
            alike = (self._known.folded.get(fold(place)) for place in guesses)
            name = next((place for place in alike if place is not None), None)
        return None if name is None else Found(name, True)

    def places(self, text: str) -> list[str]:
        """Return where a path leads, as Ultralytics and rfdetr read it, below the root; nowhere if it leads out."""
        return list(dict.fromkeys(self._exact(self._read(text))))

    def is_inside(self, text: str) -> bool:
        """Return whether a path stays in the dataset, whether anything is there or not."""
        path = self._read(text)
        return path.kind == "rooted" or (
            path.kind == "relative" and any(_join(start, path.parts) is not None for start in self._starts or [()])
        )

    def explain(self, text: str) -> str:
        """Return why a path means nothing."""
        if _ADDRESS.match(text):
            return f"{shown(text)} is a URL, and URLs are not downloaded"
        if self.is_inside(text):
            return f"{self.shown(text)} is not there"
        return f"{self.shown(text)} is not in {self._root}, nor is anything of its name"

    def shown(self, text: str) -> str:
        """Return a path for a message, with what comes before it."""
        path = shown(text, MAX_PATH_SHOWN)
        return path if self._base_text is None else f"{path} below {shown(self._base_text, MAX_PATH_SHOWN)}"

    def _read(self, text: str) -> _Path:
        is_windows = "\\" in text or _DRIVE.match(text)
        path = PureWindowsPath(text) if is_windows else PurePosixPath(text)
        parts = tuple(part for part in path.parts if part != path.anchor)
        if not path.anchor:
            return _Path(parts, "relative")
        for root in (self._root.absolute(), self._root.resolve()):
            inside = _join((), parts)
            if not is_windows and inside is not None and PurePosixPath("/", *inside).is_relative_to(root):
                return _Path(PurePosixPath("/", *inside).relative_to(root).parts, "rooted")
        return _Path(parts, "elsewhere")

    def _find_starts(self) -> Iterator[_Parts]:
        """Yield where relative paths begin, below the root."""
        base = self._base
        if base is None:
            yield from self._homes
        elif base.kind == "rooted":
            yield base.parts
        elif base.kind == "relative":
            places = [place for home in [*self._homes, ()] if (place := _join(home, base.parts)) is not None]
            yield from places
            if not any("/".join(place) in self._names for place in places):
                yield from self._homes

    def _exact(self, path: _Path) -> Iterator[str]:
        if path.kind == "rooted":
            yield "/".join(path.parts)
        for start in self._starts if path.kind == "relative" else ():
            for parts in (path.parts, path.parts[1:]) if path.parts[:1] == ("..",) else (path.parts,):
                place = _join(start, parts)
                if place is not None:
                    yield "/".join(place)

    def _guesses(self, path: _Path, role: Role | None) -> Iterator[str]:
        """Yield the endings of a path, the longest first."""
        before = self._base.parts if self._base and path.kind == "relative" else ()
        parts = [part for part in (*before, *path.parts) if part != ".."]
        for skip in range(len(parts)):
            dropped, kept = parts[:skip], parts[skip:]
            if role and any(role_of(p) == role for p in dropped) and not any(role_of(p) == role for p in kept):
                return
            for home in dict.fromkeys([*self._homes, ()]):
                yield "/".join((*home, *kept))


def fold(name: str) -> str:
    """Return what names have in common that differ in case or Unicode form alone."""
    return unicodedata.normalize("NFC", name).casefold()


def _split(name: str) -> _Parts:
    return tuple(part for part in name.split("/") if part)


def _join(start: _Parts, parts: _Parts) -> _Parts | None:
    """Return a path without `..`; none where it leads out of the root."""
    place = list(start)
    for part in parts:
        if part == ".." and not place:
            return None
        if part == "..":
            place.pop()
        else:
            place.append(part)
    return tuple(place)
