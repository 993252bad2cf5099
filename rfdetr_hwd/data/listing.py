"""The files of an image directory, listed once, and whether a path that annotations name is one of them."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from rfdetr_hwd.data.images import IMAGE_SUFFIXES
from rfdetr_hwd.data.roles import role_of

_TOP = ("", "images/")
"""Where links may lead to another disk."""
_KINDS = ("images", "labels")
"""What links may be called, too, in the directory of a split."""
COPY_ADVICE = "copy the dataset with `cp -rL DATASET COPY`, which puts the files in place of the links"
"""What to do about links to elsewhere."""


@dataclass(frozen=True)
class FileList:
    """The files below a directory. Hidden ones (`.ipynb_checkpoints`, macOS' `._x.jpg`, `__MACOSX`) are not among them.

    Attributes:
        root: The directory.
        names: Paths of the files below it, with `/`.
        escaping: Links to files and directories (with a `/` at the end) somewhere else.
        closed: Folders that cannot be listed, with a `/` at the end.
        hints: By a path that is not there, what else is known about it.
    """

    root: Path
    names: frozenset[str]
    escaping: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    hints: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def scan(cls, root: Path, within: Path | None = None) -> "FileList":
        """List a directory and all directories in it; a directory that is missing has no files.

        Args:
            root: The directory.
            within: The dataset that it is of; `None`: it is the dataset. Links may lead anywhere in `find_homes` of it.
        """
        names: set[str] = set()
        escaping: set[str] = set()
        closed: set[str] = set()
        homes = [_real(root), *find_homes(within or root)]
        entered = {homes[0]}
        pending = [(root, "")]
        while pending:
            directory, prefix = pending.pop()
            for entry in _entries(directory, prefix, closed):
                is_directory, is_file = _kind(entry)
                name = f"{prefix}{entry.name}{'/' if is_directory else ''}"

                # Refuse links out of the dataset, and circles of links
                if entry.is_symlink():
                    target = _real(entry)
                    if not any(target.is_relative_to(home) for home in homes):
                        escaping.add(name)
                        continue
                    is_new = target not in entered or (
                        _may_lead_out(prefix, entry.name) and not _real(directory).is_relative_to(target)
                    )
                    if is_directory and not is_new:  # a circle of links
                        continue
                    entered.add(target)
                if is_directory:
                    pending.append((Path(entry), name))
                elif is_file:
                    names.add(name)
        return cls(root, frozenset(names), frozenset(escaping), frozenset(closed))

    def below(self, directory: str) -> "FileList":
        """Return the files below one of the directories, `""` being the root, with paths that begin there."""
        if not directory:
            return self
        prefix = f"{directory}/"
        names, escaping, closed = (
            frozenset(name[len(prefix) :] for name in group if name.startswith(prefix) and name != prefix)
            for group in (self.names, self.escaping, self.closed)
        )
        return FileList(self.root / directory, names, escaping, closed)

    def with_hints(self, hints: Mapping[str, str]) -> "FileList":
        """Return the same files, with more to say about paths that are not there."""
        return replace(self, hints=hints)

    @cached_property
    def image_counts(self) -> Counter[str]:
        """The directories that hold images themselves, `""` being the root, and how many."""
        counts = Counter(name.rpartition("/")[0] for name in self.names if name.lower().endswith(IMAGE_SUFFIXES))
        return Counter(dict(sorted(counts.items())))

    @cached_property
    def by_basename(self) -> Mapping[str, Sequence[str]]:
        """The paths by their last part, sorted."""
        paths: defaultdict[str, list[str]] = defaultdict(list)
        for name in sorted(self.names):
            paths[name.rpartition("/")[2]].append(name)
        return paths

    def leads_out(self, path: str) -> bool:
        """Return whether a path is a link to somewhere else, or below one."""
        parents = (f"{parent}/" for parent in PurePosixPath(path).parents)
        return bool(self.escaping) and (path in self.escaping or any(parent in self.escaping for parent in parents))

    def problem(self, name: str) -> tuple[str, str]:
        """Return the kind of finding about a path that annotations name, and the reason; empty texts if it is there."""
        if name in self.names:
            return "", ""
        path = PurePosixPath(name)
        hint = f"; {self.hints[name]}" if name in self.hints else ""
        is_elsewhere = path.is_absolute() and not path.is_relative_to(self.root.absolute().as_posix())
        if is_elsewhere or ".." in path.parts or "\0" in name:
            return "unsafe_path", f"the path {ascii(name)} leaves the image directory {self.root}{hint}"
        plain = str(path)  # without ./ and //
        if self.leads_out(plain):
            return "unsafe_path", f"{ascii(name)} is a link out of the image directory {self.root}: {COPY_ADVICE}"
        if plain in self.names:
            return "", ""
        if is_hidden(plain):
            hint = "; hidden files and directories are not read"
        elif any(f"{parent}/" in self.closed for parent in path.parents):
            hint = "; its directory cannot be listed"
        return "missing_file", f"there is no file {ascii(name)} in {self.root}{hint}"


def find_homes(root: Path) -> list[Path]:
    """Return where a dataset lies: its real directory, and those on other disks that links lead to.

    Only links directly in it or in its `images/`, and `images` and `labels` of a split (`train/images`), do so: the
    maker of the dataset has put them there. None leads to a directory that holds the dataset itself.
    """
    homes = [_real(root)]
    splits = [f"{entry.name}/" for entry in _entries(root, "", set()) if role_of(entry.name)]
    for place in (*_TOP, *splits):
        for entry in _entries(root / place, place, set()):
            is_allowed = entry.is_symlink() and _may_lead_out(place, entry.name)
            if is_allowed and _kind(entry)[0] and not homes[0].is_relative_to(_real(entry)):
                homes.append(_real(entry))
    return homes


def _may_lead_out(prefix: str, name: str) -> bool:
    """Return whether a link may lead out of the dataset, by the directory that it is in, with its `/`, and its name."""
    is_in_split = prefix.count("/") == 1 and role_of(prefix) is not None
    return prefix in _TOP or (is_in_split and name.lower() in _KINDS)


def is_hidden(path: str) -> bool:
    """Return whether a file or a directory above it is one that no annotation tool means: hidden, or macOS' own."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _real(path: "Path | os.DirEntry[str]") -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises an error for links that lead to each other


def _entries(directory: Path, prefix: str, closed: set[str]) -> Iterator["os.DirEntry[str]"]:
    """Yield what is in a directory and not hidden; one that cannot be listed is entered in `closed`."""
    if not directory.is_dir():
        return
    try:
        with os.scandir(directory) as entries:
            yield from (entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX")
    except OSError:
        closed.add(prefix)


def _kind(entry: "os.DirEntry[str]") -> tuple[bool, bool]:
    """Return whether it is a directory, and whether it is a regular file: no pipe, which would be waited for."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:  # a link to where nobody may look
        return False, False
