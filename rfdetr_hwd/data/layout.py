"""Where the splits of a dataset lie: what all formats say about it, and how a split is named and chosen."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.formats import Format
from rfdetr_hwd.data.roles import ROLES, Role, role_of


@dataclass(frozen=True)
class SplitFiles:
    """Annotations and images of a split that are named apart, each from the dataset's directory or absolute.

    Attributes:
        annotations: The annotation file, or the directory of the annotation files.
        images: The directory of the images; `None`: wherever they are found.
    """

    annotations: str
    images: str | None = None


SplitName = str | SplitFiles | None
"""How a user names a split: by its name, its directory or its annotation file, or both apart; `None`: the usual one."""

USUAL_NAMES: Mapping[Role, SplitName] = MappingProxyType({})
"""No split has a name of its own."""


@dataclass(frozen=True)
class Split:
    """Where one split of a dataset lies.

    Attributes:
        role: What it is for; `None`: its name does not say so, and it is used only if it is named.
        name: Its own name.
        format: Format of the dataset.
        root: Directory of the dataset; links may lead anywhere in it.
        images: Directory of the images, of the shards, or the root of a YOLO dataset.
        annotations: The annotation file, the index of the shards, or the root of a YOLO dataset.
        is_fixed: Whether the images lie below `images` and nowhere else, because the user says so.
    """

    role: Role | None
    name: str
    format: Format
    root: Path
    images: Path
    annotations: Path
    is_fixed: bool = False

    @property
    def place(self) -> str:
        """Where its annotations lie, from the root, for messages."""
        return shown_path(self.annotations, self.root)

    @property
    def title(self) -> str:
        """Its place, or its name where that is the root."""
        return self.name if self.annotations == self.root else self.place

    def is_called(self, name: str) -> bool:
        """Return whether a user may mean this split: by its name, or by the path of its directory or its file."""
        plain = Path(self.root, name)
        return name == self.name or plain in (self.images, self.annotations, self.annotations.parent)


class Found(NamedTuple):
    """What a format finds in a directory.

    Attributes:
        splits: All splits that are there; several may have one role, and some have none.
        notes: What is there and not used, as sentences.
        missing: Why a split is not there that the dataset says it has.
    """

    splits: tuple[Split, ...]
    notes: tuple[str, ...] = ()
    missing: Mapping[Role, str] = MappingProxyType({})


@dataclass(frozen=True)
class Layout:
    """A dataset whose format is known.

    Attributes:
        root: Directory of the dataset.
        format: What it is read as.
        found: All splits that are there; several may have one role, and some have none.
        notes: What is there and not used, as sentences.
        names: How the user names splits.
        image_counts: How many images lie in each directory, by its path from the root.
        missing: Why a split is not there that the dataset says it has.
    """

    root: Path
    format: Format
    found: tuple[Split, ...]
    notes: tuple[str, ...] = ()
    names: Mapping[Role, SplitName] = field(default_factory=dict)
    image_counts: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[Role, str] = field(default_factory=dict)

    def split(self, role: Role, name: SplitName = None) -> Split:
        """Return a split; `name` defaults to what the user calls it, or else to the usual names.

        Raises:
            DatasetError: It is not there, or several are; the message says what is.
        """
        name = self.names.get(role) if name is None else name
        if isinstance(name, SplitFiles):
            return self._named_apart(role, name)
        if name is not None:
            return self._named(role, name)
        chosen = [split for split in self.found if split.role == role]
        if len(chosen) > 1:
            there = enumerate_some([split.title for split in chosen])
            raise DatasetError(f"{self.root} has several splits for {role}: {there}. Choose one with {_option(role)}")
        if not chosen:
            reason = f": {self.missing[role]}" if role in self.missing else ""
            raise DatasetError(f"{self.root} has no {role} split{reason}{self._there()}. {self._advice(role)}")
        return chosen[0]

    def splits(self, names: Mapping[Role, SplitName] = USUAL_NAMES) -> Iterator[Split]:
        """Yield the splits that are used: those of the usual names, and those that are named.

        Raises:
            DatasetError: One that is named is not there, or several have one role.
        """
        for role in ROLES:
            name = names.get(role) or self.names.get(role)
            if name is not None or any(split.role == role for split in self.found):
                yield self.split(role, name)

    def remarks(self, needed: Collection[Role] = ("train", "val")) -> list[str]:
        """Return, as sentences, what is there and not used, and what `train` would still need."""
        used = list(self.splits())
        places = {split.annotations for split in used}
        unused = [split.title for split in self.found if split.annotations not in places]
        remarks = (
            [f"not used: {enumerate_some(unused)}. Choose splits with {_option('train')} and similar options"]
            if unused
            else []
        )
        missing = [role for role in needed if role not in {split.role for split in used}]
        if missing:
            remarks.append(
                f"there is no {' and no '.join(missing)} split, which `train` needs. {self._advice(missing[0])}"
            )
        bare = [f"{count} images in {place}" for place, count in self._bare_splits().items()]
        remarks += [f"not used, because there are no annotations: {enumerate_some(bare)}"] if bare else []
        return [*remarks, *self.notes]

    def _bare_splits(self) -> Counter[str]:
        """Return the directories that are called like a split and belong to none, and how many images are in each."""
        counts: Counter[str] = Counter()
        homes = {home for split in self.found for home in (split.images, split.annotations.parent) if home != self.root}
        for directory, count in self.image_counts.items():
            parts = directory.split("/")
            end = next((number for number, part in enumerate(parts, 1) if role_of(part)), None)
            place = self.root.joinpath(*parts[:end])
            is_used = any(home.is_relative_to(place) or place.is_relative_to(home) for home in homes)
            if end is not None and not is_used and all(split.images != self.root for split in self.found):
                counts["/".join(parts[:end])] += count
        return counts

    def _named(self, role: Role, name: str) -> Split:
        chosen = [split for split in self.found if split.is_called(name)]
        if not chosen and name.lower().endswith(".json"):
            return self._named_apart(role, SplitFiles(name))
        if not chosen and self.format == "yolo" and (self.root / name).exists():  # any directory of images will do
            return Split(role, name, self.format, self.root, self.root / name, self.root)
        if len(chosen) > 1:  # a name of its own counts more than a directory that it shares
            chosen = [split for split in chosen if split.name == name] or chosen
        if len(chosen) != 1:
            several = f"several splits of the name {name!r}" if chosen else f"no split {name!r}"
            raise DatasetError(f"{_option(role)}: {self.root} has {several}{self._there()}. {_how_to_name(role)}")
        return replace(chosen[0], role=role)

    def _named_apart(self, role: Role, files: SplitFiles) -> Split:
        annotations = self.root / files.annotations
        if not annotations.exists():
            raise DatasetError(f"{_option(role)}: there are no annotations {annotations}{self._there()}")
        images = self.root / files.images if files.images is not None else annotations.parent
        if not images.is_dir():
            raise DatasetError(f"{_option(role)}: there is no image directory {images}")
        format: Format = "coco" if annotations.is_file() else self.format
        if format == "yolo":
            raise DatasetError(
                f"{_option(role)}: YOLO labels are found by their images: give the image directory alone, as DIRECTORY"
            )
        name = files.annotations if role_of(annotations.stem) is None else annotations.stem
        return Split(role, name, format, self.root, images, annotations, files.images is not None)

    def _there(self) -> str:
        splits = [f"{split.name} ({split.place})" if split.title != split.name else split.name for split in self.found]
        return f". It has the splits {enumerate_some(splits)}" if splits else ""

    def _advice(self, role: Role) -> str:
        advice = _how_to_name(role)
        if role == "val" and any(split.role == "train" for split in self.found):
            advice += ", or hold out a part of train with data.val_fraction=0.1"
        if role != "test" and len(self.found) == 1:
            advice += f", or split the dataset: rfdetr-hwd data split {self.root} --out DIRECTORY"
        return advice


def shown_path(path: Path, root: Path) -> str:
    """Return a path from the root of the dataset, or as it is where it lies elsewhere."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _option(role: Role) -> str:
    return f"data.{role} (--{role})"


def _how_to_name(role: Role) -> str:
    return f"Name it with {_option(role)}, as NAME or as {{annotations: FILE, images: DIRECTORY}}"


def enumerate_some(names: Sequence[str], limit: int = 6) -> str:
    """Return names as a list in a sentence, the first of many."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
