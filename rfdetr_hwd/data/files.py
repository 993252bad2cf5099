"""The files of an image folder, listed once, and whether a path that annotations name is one of them."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class FileList:
    """The files below a folder. Hidden ones (`.ipynb_checkpoints`, macOS' `._x.jpg`, `__MACOSX`) are not among them.

    Attributes:
        root: The folder.
        names: Paths of the files below it, with `/`.
        escaping: Links to files and folders (with a `/` at the end) somewhere else.
    """

    root: Path
    names: frozenset[str]
    escaping: frozenset[str] = frozenset()

    @classmethod
    def scan(cls, root: Path, within: Path | None = None) -> "FileList":
        """List a folder and all folders in it; a folder that is missing has no files.

        Args:
            root: The folder.
            within: Links may lead anywhere below here; `None`: below `root`.
        """
        names: set[str] = set()
        escaping: set[str] = set()
        homes = [root.resolve(), *([within.resolve()] if within else [])]
        entered = {homes[0]}
        pending = [(root, "")]
        while pending:
            folder, prefix = pending.pop()
            for entry in os.scandir(folder) if folder.is_dir() else []:
                if is_hidden(entry.name):
                    continue
                is_folder = entry.is_dir()
                name = f"{prefix}{entry.name}{'/' if is_folder else ''}"
                if entry.is_symlink():
                    target = Path(entry).resolve()
                    if not any(target.is_relative_to(home) for home in homes):
                        escaping.add(name)
                        continue
                    if is_folder and target in entered:  # a circle of links
                        continue
                    entered.add(target)
                if is_folder:
                    pending.append((Path(entry), name))
                elif entry.is_file():  # no pipe, which would be waited for
                    names.add(name)
        return cls(root, frozenset(names), frozenset(escaping))

    def problem(self, name: str) -> tuple[str, str]:
        """Return the kind of finding about a path that annotations name, and the reason; empty texts if it is there."""
        if name in self.names:
            return "", ""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\0" in name:
            return "unsafe_path", f"the path {ascii(name)} leaves the image folder {self.root}"
        plain = str(path)  # without ./ and //
        parents = [f"{parent}/" for parent in path.parents if parent != PurePosixPath()]
        if plain in self.escaping or any(parent in self.escaping for parent in parents):
            return "unsafe_path", f"{ascii(name)} is a link out of the image folder {self.root}"
        if plain in self.names:
            return "", ""
        return "missing_file", f"there is no file {ascii(name)} in {self.root}"


def is_hidden(path: str) -> bool:
    """Return whether a file or a folder above it is one that no annotation tool means: hidden, or macOS' own."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))
