"""Find the directory that the file names of an annotation file are relative to."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import Role, role_of

_SAMPLE = 50
_FEW = 500  # directories, up to which each is examined
_IMAGE_DIRECTORIES = ("images", "image", "imgs", "img", "jpegimages", "data", "photos", "pictures", "frames")
_LOOKALIKES = re.compile(r"mask|label|annot|segment|depth|thumb|backup|old|copy|trash", re.IGNORECASE)


class Owner(NamedTuple):
    """An annotation file.

    Attributes:
        directory: Where it lies below the root, `""` being the root.
        name: Name of its split.
        role: Role of the split, if its name gives one.
    """

    directory: str
    name: str
    role: Role | None


def choose_directory(names: Sequence[str], owner: Owner, files: FileList) -> str | None:
    """Return the directory that the names of an annotation file are relative to, or `None` if no file is found.

    Directories are ranked by how well their names fit the annotation file. The first that has half of the files is
    chosen, or else the directory that has most.

    Args:
        names: File names as they are annotated, all or a sample.
        owner: The annotation file.
        files: The files below the root.

    Raises:
        DatasetError: Two directories have files of the same names, and neither fits better.
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
            f"the images of {owner.name} may be in {' or '.join(repr(d) for d in sorted(rivals))}, which have files of "
            "the same names. Specify the directory as {annotations: FILE, images: DIRECTORY}"
        )
    return best


def _candidates(wanted: Sequence[str], owner: Owner, files: FileList) -> set[str]:
    """Return directories that some of the names exist in, and the default ones."""
    sample = wanted[:: max(1, len(wanted) // _SAMPLE)]
    begins = {owner.directory, ""}
    if len(files.image_counts) <= _FEW:
        above = {str(parent) for directory in files.image_counts for parent in PurePosixPath(directory, "x").parents}
        return begins | {d for d in above - {"."} if any(join_path(d, name) in files.names for name in sample)}
    for name in sample:
        for path in files.by_basename.get(name.rpartition("/")[2], ()):
            if path == name or path.endswith(f"/{name}"):
                begins.add(path[: -len(name)].rstrip("/"))
    return begins


def rank_directory(directory: str, owner: Owner) -> tuple[int, bool, bool, int]:
    """Return the rank of a directory for an annotation file by its name, the best first."""
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
