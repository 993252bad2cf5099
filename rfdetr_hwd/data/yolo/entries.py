"""Turn what a YOLO description names for a split into its images: directories, lists of images, single images."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from posixpath import splitext
from typing import NamedTuple

from rfdetr_hwd.data.findings import shown
from rfdetr_hwd.data.listing import COPY_ADVICE, FileList
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.data.text_file import read_lines
from rfdetr_hwd.data.yolo.description import Description
from rfdetr_hwd.data.yolo.label_files import is_image
from rfdetr_hwd.data.yolo.paths import KnownPaths, PathFinder


class Problem(NamedTuple):
    """A finding that is known before the split is read: its kind, and where and what it is about."""

    kind: str
    where: str
    who: str
    reason: str


class Resolved(NamedTuple):
    """The images of a split.

    Attributes:
        images: Their paths below the root, sorted.
        is_guess: Whether they are not where the description says.
        notes: What was assumed, as sentences.
        problems: What is wrong with single entries.
        reason: Why there are none.
    """

    images: tuple[str, ...]
    is_guess: bool = False
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    reason: str = ""


class EntryReader:
    """Resolves the entries of descriptions of one dataset.

    Args:
        root: Directory of the dataset.
        files: All files below the root.
    """

    def __init__(self, root: Path, files: FileList) -> None:
        self._root, self._files = root, files
        self._images = sorted(name for name in files.names if is_image(name))
        lists = {name for name in files.names if name.lower().endswith(".txt")}
        self._known = KnownPaths({*self._images, *lists, *_ancestors(self._images)})

    def resolve(self, role: Role, entries: Sequence[str], description: Description) -> Resolved:
        """Return the images of a split.

        Args:
            role: What the split is for.
            entries: What the description names for it.
            description: The description.
        """
        # Look up each entry: a list of images, a directory or a single image
        where = description.where
        finder = PathFinder(self._root, self._known, tuple(dict.fromkeys((description.home, ""))), description.base)
        images: set[str] = set()
        notes: list[str] = []
        problems: list[Problem] = []
        missing: list[str] = []
        is_guess = False
        for entry in entries:
            found = finder.find(entry, role)
            if found is None:
                missing.append(f"{where.name} names {role}: {self._explain(entry, finder)}")
                continue
            if found.name in self._files.names and not is_image(found.name):
                listed = self._read_list(found.name, role, description)
                images.update(listed.images)
                notes += listed.notes
                problems += listed.problems
                missing += [listed.reason] if listed.reason else []
                is_guess |= listed.is_guess
            else:
                images.update(self._images_in(found.name))
            if found.is_guess:
                is_guess = True
                what = f"{where.name} names {role}: {finder.shown(entry)}"
                notes.append(f"{what} is not there; {found.name or 'the root'} is read")
        if images:  # or else the reason says it
            problems += [Problem("missing_part", str(where), role, reason) for reason in missing]
        return Resolved(tuple(sorted(images)), is_guess, tuple(notes), tuple(problems), "; ".join(missing))

    def _explain(self, entry: str, finder: PathFinder) -> str:
        """Return why an entry has no images."""
        for place in finder.places(entry):
            links = [link for link in self._files.escaping if f"{place}/".startswith(link) or place == link]
            if links:
                return f"{finder.shown(entry)} is a link out of {self._root}, which is not followed: {COPY_ADVICE}"
            inside = Counter(splitext(name)[1] for name in self._files.names if name.startswith(f"{place}/"))
            if inside:
                kinds = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in inside.most_common(5))
                return f"{finder.shown(entry)} holds no image of a format that is read, but other files: {kinds}"
        return finder.explain(entry)

    def _images_in(self, name: str) -> Iterable[str]:
        if name in self._files.names:
            return [name]
        return [image for image in self._images if image.startswith(f"{name}/")] if name else self._images

    def _read_list(self, name: str, role: Role, description: Description) -> Resolved:
        """Read a file that lists images. Entries begin beside it, as Ultralytics has `./`, or in the root."""
        path = self._root / name
        try:
            lines = read_lines(path)
        except (OSError, ValueError) as error:
            return Resolved((), reason=f"cannot read the list of images {path}: {error}")
        homes = dict.fromkeys((name.rpartition("/")[0], "", description.home))
        finder = PathFinder(self._root, self._known, tuple(homes))

        # Look up each line
        reader = _ListReader(finder, self._files, role)
        problems = []
        for number, line in lines:
            kind, reason = reader.add(line.strip().strip("'\""))
            if kind:
                problems.append(Problem(kind, str(path), f"line {number}", reason))

        # Explain an empty list by its first problem
        reason = f"{path} lists no image that is there" if not reader.images else ""
        if reason and problems:
            reason += f": {problems[0].who}: {problems[0].reason}"
        return Resolved(
            tuple(reader.images), bool(reader.num_guessed), tuple(reader.notes(name)), tuple(problems), reason
        )


class _ListReader:
    """Finds the images of a list, most of which lie in few directories."""

    def __init__(self, finder: PathFinder, files: FileList, role: Role) -> None:
        self._finder, self._files, self._role = finder, files, role
        self._directories: dict[str, tuple[str, bool]] = {}
        self._example = ("", "")
        self.images: dict[str, str] = {}
        self.num_guessed = 0
        self.num_repeated = 0

    def add(self, entry: str) -> tuple[str, str]:
        """Add the image of an entry; return a kind of finding and the reason where there is none."""
        if not is_image(entry):
            return "bad_image", f"must be the path of an image and nothing else, not {shown(entry)}"

        # Try the directory where the images before it were
        directory, name = _cut(entry)
        place, is_guess = self._directories.get(directory, ("", False))
        image = f"{place}/{name}" if place else name

        # Otherwise search for it, and remember its directory
        if directory not in self._directories or image not in self._files.names:
            found = self._finder.find(entry, self._role)
            is_astray = found and found.is_guess and directory in self._directories and _cut(found.name)[0] != place
            if found is None or found.name not in self._files.names or is_astray:
                return self._missing(entry, image if directory in self._directories else "")
            image, is_guess = found
            if _cut(image)[1] == name:
                self._directories.setdefault(directory, (_cut(image)[0], is_guess))

        # Refuse a guess that is the image of another line
        if image in self.images and is_guess and self.images[image] != entry:
            reason = f"{shown(entry)} is not there; {image}, of the same name, is that of {shown(self.images[image])}"
            return "missing_file", reason
        if is_guess:
            self._example = self._example if self.num_guessed else (entry, image)
            self.num_guessed += 1

        # Add it, once
        self.num_repeated += image in self.images
        self.images.setdefault(image, entry)
        return "", ""

    def notes(self, name: str) -> Iterable[str]:
        """Yield, as sentences, what was assumed."""
        if self.num_guessed:
            entry, image = self._example
            many = f"{self.num_guessed} entries are not there, and files of their names are read"
            yield f"{name}: {many}: {image} for {shown(entry)}"
        if self.num_repeated:
            yield f"{name}: {self.num_repeated} entries repeat an image: each image is used once"

    def _missing(self, entry: str, place: str) -> tuple[str, str]:
        """Return what to say of an entry that is not there; others of its directory may have been found at `place`."""
        if place:
            return "missing_file", f"there is no file {shown(place)} in {self._files.root}"
        is_inside = self._finder.is_inside(entry)
        return "missing_file" if is_inside else "unsafe_path", self._finder.explain(entry)


def _ancestors(names: Iterable[str]) -> set[str]:
    """Return the directories that hold files, themselves or below them; the root is `""`."""
    found = {""}
    for directory in {name.rpartition("/")[0] for name in names}:
        parts = directory.split("/")
        found.update("/".join(parts[:count]) for count in range(1, len(parts) + 1))
    return found


def _cut(path: str) -> tuple[str, str]:
    """Return the directory and the last part of a path, whose separators may be Windows'."""
    end = max(path.rfind("/"), path.rfind("\\"))
    return path[: max(end, 0)], path[end + 1 :]
