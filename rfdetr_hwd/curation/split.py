"""Divide one annotated split into train, valid and test: stratified, seeded, with near-duplicates in one part."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.curation.archive import new_folder, refuse_inside
from rfdetr_hwd.curation.convert import rooted, write_dataset
from rfdetr_hwd.curation.write import Written
from rfdetr_hwd.data.account import Account
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.formats import Target
from rfdetr_hwd.data.near_duplicates import Hashes
from rfdetr_hwd.data.stratify import Shares, divide

SPLIT_NAMES = ("train", "valid", "test")


class SplitResult(NamedTuple):
    """The parts of a dataset.

    Attributes:
        rows: For each split its rows of the data, ascending.
        groups: Rows of near-duplicate images. Each group lies in one split.
        written: Written entries of each split.
    """

    rows: dict[str, NDArray[np.intp]]
    groups: list[list[int]]
    written: list[Written]


def split_dataset(
    data: DetectionData, hashes: Hashes, shares: Shares, out: Path, home: Path, to: Target = "coco"
) -> SplitResult:
    """Divide a split and write the parts as a dataset.

    In COCO image ids, category ids, boxes, areas and crowd flags are kept, and annotations are numbered from 1 over all
    parts. Segmentations, licences and the grouping category are dropped. Images are hard links where the disk allows
    it, or else copies. The same data, fractions and seed give the same parts.

    Args:
        data: The annotated images.
        hashes: Of these images, from `rfdetr_hwd.data.near_duplicates.hash_images`.
        shares: Fractions of train, valid and test.
        out: Directory that does not exist yet. It appears when all parts are complete.
        home: Directory of the dataset.
        to: Format to write.

    Raises:
        DatasetError: A part would be empty, an image is outside the dataset, or the directory cannot be written.
        ValueError: The fractions are not valid.
    """
    # Choose a part for each image
    check_fractions(shares.fractions)
    refuse_inside(out, home)
    parts, groups = divide(data, hashes, shares)
    wanted = [(part, name) for part, name in enumerate(SPLIT_NAMES) if shares.fractions[part] > 0]
    rows = {name: np.flatnonzero(parts == part) for part, name in wanted}
    empty = [name for name in rows if not len(rows[name])]
    if empty:
        raise DatasetError(
            f"{len(data)} images, with {len(groups)} groups of near-duplicates, are too few for these fractions: "
            f"{' and '.join(empty)} would be empty. Give an unwanted part the fraction 0: --fractions 0.8,0.2,0"
        )

    # Write the parts as a dataset
    data = rooted(data)
    with new_folder(out) as folder:
        written = write_dataset(folder, {name: data.take(rows[name], name) for name in rows}, to, home)
    return SplitResult(rows, groups, written)


def check_fractions(fractions: Sequence[float]) -> None:
    """Raise a ValueError unless there are three fractions with the sum 1, none negative, and the first above 0."""
    if len(fractions) != len(SPLIT_NAMES) or not all(0 <= share <= 1 for share in fractions):
        raise ValueError(f"must be three fractions (train, valid, test) between 0 and 1, not {list(fractions)}")
    if abs(sum(fractions) - 1) > 1e-6 or fractions[0] == 0:
        raise ValueError(f"must have the sum 1 and a train fraction above 0, not {list(fractions)}")


def without_unreadable(
    data: DetectionData, hashes: Hashes, account: Account, findings: Findings
) -> tuple[DetectionData, Hashes, Account]:
    """Return a split without the images that cannot be decoded. Each of those becomes a finding."""
    if not hashes.unreadable:
        return data, hashes, account
    for row, reason in hashes.unreadable.items():
        findings.add("unreadable_image", data.path(row), f"image {data.image_ids[row]}", reason)
    rows = np.array([row for row in range(len(data)) if row not in hashes.unreadable], dtype=np.intp)
    kept = data.take(rows, data.name)
    return kept, Hashes(hashes.values[rows], {}), account.without(len(hashes.unreadable), kept)


def count_images(data: DetectionData, parts: Mapping[str, NDArray[np.intp]]) -> list[Sequence[object]]:
    """Return table rows (name, images in the data, images in each part) for all images, then for each class.

    Args:
        data: The annotated images.
        parts: Rows of the data in each part.
    """
    images = np.repeat(np.arange(len(data)), np.diff(data.offsets))
    rows: list[Sequence[object]] = [("images", len(data), *map(len, parts.values()))]
    for label, name in enumerate(data.class_names):
        having = np.unique(images[data.labels == label])
        rows.append((f"with {name}", len(having), *(np.isin(having, part).sum() for part in parts.values())))
    return rows
