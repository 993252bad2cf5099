"""Find the directory of a dataset in which the file names of an annotation file begin."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import Role, role_of

_SAMPLE = 50
_FEW = 500  # directories, of which each is looked into
_IMAGE_DIRECTORIES = ("images", "image", "imgs", "img", "jpegimages", "data", "photos", "pictures", "frames")
_LOOKALIKES = re.compile(r"mask|label|annot|segment|depth|thumb|backup|old|copy|trash", re.IGNORECASE)


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
    wanted = [plain_path(name) for name in names]
    candidates = _candidates(wanted, owner, files)
    there = files.names | files.escaping
    hits = {directory: sum(join_path(directory, name) in there for name in wanted) for directory in candidates}
    ranks = {directory: (rank_directory(directory, owner), -hits[directory]) for directory in candidates}
    good = [directory for directory in candidates if 2 * hits[directory] >= len(wanted) > 0]
    some = [directory for directory in candidates if hits[directory]]
    if not some:
        return None
    best = min(good or some, key=lambda d: (*ranks[d], d) if good else (-hits[d], *ranks[d], d))
    rivals = [d for d in some if ranks[d] == ranks[best]]
    if any(sum(join_path(d, name) in there for d in rivals) > 1 for name in wanted if len(rivals) > 1):
        raise DatasetError(
            f"the images of {owner.name} may be those in {' or '.join(repr(d) for d in sorted(rivals))}: the same "
            "names are in both. Say which, as {annotations: FILE, images: DIRECTORY}"
        )
    return best


def _candidates(wanted: Sequence[str], owner: Owner, files: FileList) -> set[str]:
    """Return directories below which some of the names are, and those that are looked into first."""
    sample = wanted[:: max(1, len(wanted) // _SAMPLE)]
    begins = {owner.directory, ""}
    if len(files.image_counts) <= _FEW:
        above = {str(parent) for folder in files.image_counts for parent in PurePosixPath(folder, "x").parents}
        return begins | {d for d in above - {"."} if any(join_path(d, name) in files.names for name in sample)}
    for name in sample:
        for path in files.by_basename.get(name.rpartition("/")[2], ()):
            if path == name or path.endswith(f"/{name}"):
                begins.add(path[: -len(name)].rstrip("/"))
    return begins


def rank_directory(directory: str, owner: Owner) -> tuple[int, bool, bool, int]:
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


def plain_path(name: str) -> str:
    """Return a path without ./ and //."""
    return str(PurePosixPath(name))


def join_path(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
