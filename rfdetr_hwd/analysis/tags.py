"""Metrics by the user's own tags of images, read from a CSV file."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rfdetr_hwd.errors import UserError
from rfdetr_hwd.evaluation.matching import Matches
from rfdetr_hwd.evaluation.weighted_metrics import resampled_metrics

MAX_BYTES = 64 << 20
MAX_VALUES = 50
"""Largest number of different values of a tag. A column with more, such as a date, is no tag."""


class TagsError(UserError):
    """A CSV file of tags that cannot be used."""


@dataclass(frozen=True)
class Tags:
    """The images of each tag and value.

    Attributes:
        images: For each tag in the order of the file, for each of its values in alphabetical order, the ids of its
            images in ascending order. An empty cell is no value.
        num_untagged: Images of the dataset that the file does not list.
        num_unknown: Rows of images that the dataset does not have.
    """

    images: dict[str, dict[str, tuple[int, ...]]]
    num_untagged: int
    num_unknown: int = 0

    @property
    def gaps(self) -> str:
        """How many images and rows have no counterpart, in words; empty: none."""
        parts = []
        if self.num_untagged:
            parts.append(f"images without a row, which have no tag: {self.num_untagged}")
        if self.num_unknown:
            parts.append(f"rows of other images, which are ignored: {self.num_unknown}")
        return "; ".join(parts)


@dataclass(frozen=True)
class TagMetrics:
    """Metrics of the images with one value of a tag. A metric without ground truth is `None`."""

    tag: str
    value: str
    num_images: int
    num_objects: int
    metrics: dict[str, float | None]


def read_tags(path: Path, file_names: Mapping[str, int]) -> Tags:
    """Read a CSV file with the header `file_name,TAG[,TAG...]` and a row for each image, in any order.

    Args:
        path: The file, in UTF-8.
        file_names: Image id of each file name of the dataset.

    Raises:
        TagsError: It cannot be read, has no such header, lists an image twice, or none of the dataset.
    """
    rows = _read_rows(path)
    header = [name.strip() for name in rows[0]] if rows else []
    if header[:1] != ["file_name"] or len(header) < 2 or not all(header):
        raise TagsError(f"{path}, line 1: the header must be file_name, then the name of each tag")
    if len(set(header)) < len(header):
        raise TagsError(f"{path}, line 1: two columns have one name")

    found: dict[str, dict[str, list[int]]] = {tag: {} for tag in header[1:]}
    seen: set[int] = set()
    unknown: list[str] = []
    for number, row in enumerate(rows[1:], start=2):
        if not row:  # an empty line
            continue
        image = _image_of(row, header, file_names, seen, f"{path}, row {number}")
        if image is None:
            unknown.append(row[0].strip())
            continue
        seen.add(image)
        for tag, cell in zip(header[1:], row[1:], strict=True):
            if cell.strip():
                found[tag].setdefault(cell.strip(), []).append(image)
    if unknown and not seen:
        name = next(iter(file_names), "")
        raise TagsError(
            f"{path}: none of its {len(unknown)} rows is of an image of the dataset. It has {unknown[0]!r}, the "
            f"dataset {name!r}; write file names as the dataset does"
        )
    for tag, values in found.items():
        if len(values) > MAX_VALUES:
            raise TagsError(f"{path}: column {tag!r} has {len(values)} different values, more than {MAX_VALUES}")
    images = {tag: {value: tuple(sorted(values[value])) for value in sorted(values)} for tag, values in found.items()}
    return Tags(images, len(set(file_names.values()) - seen), len(unknown))


def metrics_by_tag(matches: Matches, tags: Tags, metrics: Sequence[str] = ("AP", "AP50")) -> list[TagMetrics]:
    """Return the metrics of each tag's values.

    Args:
        matches: Matches of the run.
        tags: Tags of its images.
        metrics: Names of COCO's metrics, or `AP/<class name>`.
    """
    groups = [(tag, value, ids) for tag, values in tags.images.items() for value, ids in values.items()]
    if not groups:
        return []
    is_in = np.array([np.isin(matches.image_ids, ids) for _, _, ids in groups])
    values = resampled_metrics(matches, is_in, metrics)
    num_objects = matches.num_ground_truth[0].sum(axis=0)
    return [
        TagMetrics(
            tag=tag,
            value=value,
            num_images=int(is_in[row].sum()),
            num_objects=int(num_objects[is_in[row]].sum()),
            metrics={name: None if np.isnan(column[row]) else float(column[row]) for name, column in values.items()},
        )
        for row, (tag, value, _) in enumerate(groups)
    ]


def _read_rows(path: Path) -> list[list[str]]:
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise TagsError(f"{path}: it has {size} bytes, more than the limit of {MAX_BYTES}")
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError:
        raise TagsError(f"{path}: it is not UTF-8 text") from None
    except csv.Error as error:
        raise TagsError(f"{path}: it is not valid CSV: {error}") from None
    except OSError as error:
        raise TagsError(f"cannot read {path}: {error.strerror}") from None


def _image_of(
    row: list[str], header: list[str], file_names: Mapping[str, int], seen: set[int], place: str
) -> int | None:
    """Return the image id of a row; `None`: it is of no image of the dataset."""
    name = row[0].strip()
    if len(row) != len(header):
        raise TagsError(f"{place}: it has {len(row)} columns, but the header has {len(header)}")
    if name not in file_names:
        return None
    if file_names[name] in seen:
        raise TagsError(f"{place}: {name!r} is listed twice")
    return file_names[name]
