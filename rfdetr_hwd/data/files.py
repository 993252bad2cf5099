"""The files of an image folder, listed once, and whether a path that annotations name is one of them."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class FileList:
    """The files below a folder.

    Attributes:
        root: The folder.
        names: Paths of the files below it, with `/`.
        escaping: Those that are links to somewhere else.
    """

    root: Path
    names: frozenset[str]
    escaping: frozenset[str] = frozenset()

    @classmethod
    def scan(cls, root: Path) -> "FileList":
        """List a folder and all folders in it; a folder that is missing has no files."""
        names, escaping = set(), set()
        resolved = root.resolve()
        for folder, folders, files in os.walk(root):
            below = os.path.relpath(folder, root)
            prefix = "" if below == "." else f"{below}/"
            for name in files:
                names.add(prefix + name)
                path = Path(folder, name)
                if path.is_symlink() and not path.resolve().is_relative_to(resolved):
                    escaping.add(prefix + name)
            for name in [name for name in folders if Path(folder, name).is_symlink()]:
                escaping.add(f"{prefix}{name}/")  # not entered
        return cls(root, frozenset(names), frozenset(escaping))

    def problem(self, name: str) -> tuple[str, str]:
        """Return the kind of finding about a path that annotations name, and the reason; empty texts if it is there."""
        if name in self.names and name not in self.escaping:
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
