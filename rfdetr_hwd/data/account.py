"""Account for the entries of a split: which are used, and why the others are skipped."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.coco.read import RawSplit
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.images import IMAGE_SUFFIXES
from rfdetr_hwd.data.listing import FileList

SKIPS_IMAGE = (
    *("bad_image", "bad_size", "duplicate_image", "unsafe_path", "missing_file", "unreadable_label"),
    *("unreadable_image", "same_stem"),
)
"""Kinds of finding for which reading skips an image, with its objects."""
SKIPS_OBJECT = (
    *("bad_annotation", "unknown_image", "unknown_category", "bad_box", "negative_box", "outside_box"),
    "duplicate_line",
)
"""Kinds of finding for which reading skips an object."""
_SKIPS_OTHERS = ("bad_category", "duplicate_category", "duplicate_label")
"""Kinds of finding for which reading skips objects without counting them."""


class Account(NamedTuple):
    """The listed, used and skipped entries of a split.

    Attributes:
        name: Name of the split.
        listed_images: Images that it lists or has, usable or not.
        images: Images that are used.
        listed_objects: Objects in its annotations, as far as those can be read.
        objects: Objects that are used.
        skipped: Images and objects that are not used, by the reason.
        names: Files of the images that it lists or has.
    """

    name: str
    listed_images: int
    images: int
    listed_objects: int
    objects: int
    skipped: dict[str, int]
    names: frozenset[str]

    def without(self, num_unreadable: int, data: DetectionData) -> "Account":
        """Return the account after unreadable images were skipped. `data` has the remaining ones."""
        lost = {"images skipped, unreadable_image": num_unreadable}
        if len(data.labels) < self.objects:
            lost["objects skipped with their unreadable image"] = self.objects - len(data.labels)
        return self._replace(images=len(data), objects=len(data.labels), skipped={**self.skipped, **lost})


def take_account(raw: RawSplit, data: DetectionData, by_reader: Counter[str], found: Counter[str]) -> Account:
    """Compare the listed and the used entries of a split.

    Args:
        raw: The entries that its reader returned.
        data: The used ones.
        by_reader: Counts of findings of the reader by kind, about things that are not among its entries.
        found: All findings.

    Raises:
        DatasetError: More entries are missing than the findings explain.
    """
    # Count what was skipped with a finding of its own
    by_index = found - by_reader
    skipped_images = Counter(raw.skipped.values()) + Counter({kind: by_index[kind] for kind in SKIPS_IMAGE})
    skipped_objects = Counter({kind: found[kind] for kind in SKIPS_OBJECT})
    lost = len(raw.images) - len(data) - sum(by_index[kind] for kind in SKIPS_IMAGE)
    if lost > 0:
        raise DatasetError(
            f"{raw.where}: {lost} images of {data.name} were lost without a finding. This is a bug: report it"
        )

    # Count the objects that were skipped with their image, class or file
    listed_objects = len(raw.annotations) + raw.skipped_objects + sum(by_reader[kind] for kind in SKIPS_OBJECT)
    with_others = listed_objects - len(data.labels) - skipped_objects.total()
    if with_others > 0 and not skipped_images and not any(found[kind] for kind in _SKIPS_OTHERS):
        raise DatasetError(
            f"{raw.where}: {with_others} objects of {data.name} were lost without a finding. This is a bug: report it"
        )

    # Name the counts
    skipped = {f"images skipped, {kind}": count for kind, count in skipped_images.items() if count}
    skipped |= {f"objects skipped, {kind}": count for kind, count in skipped_objects.items() if count}
    if with_others > 0:
        skipped["objects skipped with their image, class or file"] = with_others
    names = {str(image.get("file_name")) for image in raw.images if isinstance(image, dict)}
    return Account(
        name=data.name,
        listed_images=len(raw.images) + len(raw.skipped),
        images=len(data),
        listed_objects=listed_objects,
        objects=len(data.labels),
        skipped=skipped,
        names=frozenset(names.union(raw.skipped)),
    )


def unlisted_images(root: Path, splits: Iterable[tuple[DetectionData, Account]]) -> Iterator[Path]:
    """Yield the images of a dataset, and of image directories elsewhere, that none of its splits lists.

    Args:
        root: Directory of the dataset.
        splits: Its splits and their accounts.
    """
    listed: set[str] = set()
    directories: dict[Path, None] = {}
    for data, account in splits:
        if data.shards is None:
            listed |= {str(data.images / name) for name in account.names.union(map(str, data.file_names))}
            if not data.images.is_relative_to(root):
                directories[data.images] = None
    for directory in (root, *directories) if listed else ():
        for name in sorted(FileList.scan(directory).names):
            if name.lower().endswith(IMAGE_SUFFIXES) and str(directory / name) not in listed:
                yield directory / name
