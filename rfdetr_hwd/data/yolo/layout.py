"""Find the splits of a YOLO dataset: what its description says, or else what lies there under the usual names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import ROLES, Role, role_of
from rfdetr_hwd.data.yolo.description import (
    YAML_NAMES,
    Description,
    class_lists,
    number_classes,
    read_class_list,
    read_descriptions,
)
from rfdetr_hwd.data.yolo.entries import EntryReader, Problem, Resolved
from rfdetr_hwd.data.yolo.label_files import LabelFiles, role_of_directory

USUAL_NAMES: Mapping[Role, str | None] = {}


class YoloSplit(NamedTuple):
    """Where one split of a YOLO dataset lies.

    Attributes:
        role: What it is for.
        images: Paths of its images below the root, sorted.
        description: What names the classes.
        notes: What was assumed to find it, as sentences.
        problems: What is wrong with single entries of what names its images.
    """

    role: Role
    images: tuple[str, ...]
    description: Description
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class YoloSplits:
    """The splits of a YOLO dataset.

    Attributes:
        description: The file that describes it, or what stands in for one.
        found: The splits that are there.
        missing: Why a split that is named is not there.
        notes: What else is there and not used, as sentences.
    """

    description: Description
    found: Mapping[Role, YoloSplit]
    missing: Mapping[Role, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_yolo_splits(root: Path, files: FileList, names: Mapping[Role, str | None] = USUAL_NAMES) -> YoloSplits | None:
    """Find a YOLO dataset: by a YAML of any name, Darknet's `obj.data`, or labels beside images.

    Args:
        root: Directory of the dataset.
        files: All files below it.
        names: Directories or lists of images, below the root, of splits that the user names.

    Raises:
        DatasetError: What describes the dataset is wrong, or several files describe different ones.
    """
    # Find the description, or infer one from the labels
    reader = EntryReader(root, files)
    description, notes = _choose(root, files, reader)
    labels = LabelFiles(root, files)
    if description is None:
        if not any(labels.has_labels(directory) for directory in labels.directories()):
            return None
        description = _describe_labels(root, files, labels)

    # Find the images of each split
    resolved: dict[Role, Resolved] = {}
    for role in ROLES:
        name = names.get(role)
        entries = (name,) if name else description.entries.get(role, ())
        if entries:
            source = Description(description.where, "", (), b"") if name else description
            resolved[role] = reader.resolve(role, entries, source)

    # Drop guesses that two splits share, then look for splits that no entry names
    _drop_shared_guesses(resolved)
    _look_around(resolved, description, labels)

    # Collect the splits and the reasons for missing ones
    found = {
        role: YoloSplit(role, split.images, description, (*description.notes, *split.notes), split.problems)
        for role, split in resolved.items()
        if split.images
    }
    missing = {role: split.reason for role, split in resolved.items() if not split.images and split.reason}
    return YoloSplits(description, found, missing, (*notes, *missing.values(), *_unused(found, labels)))


def _choose(root: Path, files: FileList, reader: EntryReader) -> tuple[Description | None, list[str]]:
    """Return the file that describes the dataset, if there is one, and what to say of others.

    Those nearest to the root count, and among them one of a usual name. Others are compared by what they say.
    """
    # Collect the descriptions nearest to the root
    near: dict[str, Description] = {}
    unused: dict[str, str] = {}
    for name, description in read_descriptions(root, files):
        if near and name.count("/") > next(iter(near)).count("/"):
            break
        if isinstance(description, DatasetError) and _is_usual(name):
            raise description
        if isinstance(description, DatasetError):
            unused[name] = str(description)
        elif "/" in name and not _meaning(description, reader)[1]:  # a copy of somebody's, far from any images
            unused[name] = "the training images that it names are not there"
        else:
            near[name] = description
    if not near:
        return None, [f"{name} is not used: {reason}" for name, reason in unused.items()]

    # Choose one of them, unless several describe different datasets
    usual = [name for name in near if _is_usual(name)]
    homes = {name.rpartition("/")[0] for name in near}
    rivals = usual[:1] if usual and len(homes) == 1 else _usable(near, reader)
    if len({_meaning(near[name], reader) for name in rivals}) > 1:
        listed = ", ".join(rivals)
        advice = "keep one, or name it data.yaml" if len(homes) == 1 else "set data.root to the directory of one"
        raise DatasetError(f"{root} holds several descriptions of a YOLO dataset: {listed}. They differ: {advice}")
    unused.update((name, f"{rivals[0]} is") for name in near if name != rivals[0])
    return near[rivals[0]], [f"{name} is not used: {reason}" for name, reason in unused.items()]


def _usable(descriptions: Mapping[str, Description], reader: EntryReader) -> list[str]:
    """Return the descriptions whose training images are there, or all of them if those of none are."""
    return [name for name, one in descriptions.items() if _meaning(one, reader)[1]] or list(descriptions)


def _meaning(description: Description, reader: EntryReader) -> tuple[object, ...]:
    """Return what two descriptions of the same dataset have in common."""
    images = {
        role: reader.resolve(role, description.entries[role], description).images if role in description.entries else ()
        for role in ROLES
    }
    return description.classes, images["train"], images["val"], images["test"]


def _is_usual(name: str) -> bool:
    return PurePosixPath(name).name.lower() in YAML_NAMES


def _describe_labels(root: Path, files: FileList, labels: LabelFiles) -> Description:
    """Return what stands in for a description: a list of classes, or numbers."""
    lists = class_lists(files)
    described = [read_class_list(root, name) for name in lists]
    if len({one.classes for one in described}) > 1:
        raise DatasetError(f"{root} holds several lists of classes, which differ: {', '.join(lists)}. Keep one")
    return described[0] if described else number_classes(root, labels.highest_class())


def _drop_shared_guesses(resolved: dict[Role, Resolved]) -> None:
    """Take back guesses that give a split the images of another, which the description tells apart."""
    before = dict(resolved)
    for role, split in before.items():
        for other, rival in before.items():
            if other != role and split.is_guess and set(split.images) & set(rival.images):
                reason = f"{'; '.join(split.notes)}, but those are images of {other}"
                resolved[role] = Resolved((), reason=reason)


def _look_around(resolved: dict[Role, Resolved], description: Description, labels: LabelFiles) -> None:
    """Give splits that have no images yet those that lie in a directory with the name of their role."""
    taken = {image for split in resolved.values() for image in split.images}
    free = [d for d in labels.directories() if not taken & set(labels.images_in(d))]
    is_described = bool(description.entries)
    for role in ROLES:
        if role in resolved and resolved[role].images:
            continue
        directories = [d for d in free if role_of_directory(d) == role and (_is_standard(d) or labels.has_labels(d))]
        if role == "train" and not directories and not is_described:  # nothing says what they are for
            directories = [d for d in free if role_of_directory(d) is None and labels.has_labels(d)]
        if not directories:
            continue
        images = tuple(sorted(image for d in directories for image in labels.images_in(d)))
        there = ", ".join(d or "." for d in directories)
        named = resolved[role].reason if role in resolved else ""
        notes = (f"{named or f'{description.where.name} names no {role}'}; {there} is read",)
        resolved[role] = Resolved(images, True, notes if is_described else ())


def _unused(found: Mapping[Role, YoloSplit], labels: LabelFiles) -> Iterator[str]:
    """Yield, as sentences, which directories hold labelled images that are in no split."""
    used = {image for split in found.values() for image in split.images}
    for directory in labels.directories():
        left = [image for image in labels.images_in(directory) if image not in used]
        if left and labels.has_labels(directory):
            yield f"{directory or 'the root'} holds {len(left)} images, some of them labelled, that are in no split"


def _is_standard(directory: str) -> bool:
    """Return whether a directory is called as YOLO's are: `train/images`, `images/train`."""
    parts = directory.split("/")[-2:]
    return len(parts) == 2 and any(p.lower() == "images" for p in parts) and any(role_of(p) for p in parts)
