"""`rfdetr-hwd data convert`, `split` and `download`: make a new dataset folder out of something else."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rfdetr_hwd.commands.console import print_table
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.archive import Unpacked
from rfdetr_hwd.data.convert import Converted, coco_to_yolo, voc_to_coco, yolo_to_coco
from rfdetr_hwd.data.decode import measure_split
from rfdetr_hwd.data.fetch import fetch_and_unpack
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.images import ReadOptions
from rfdetr_hwd.data.roboflow import download
from rfdetr_hwd.data.source import find_layout, read_split
from rfdetr_hwd.data.split import SplitResult, check_fractions, split_dataset
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.terminal import say

_CONVERSIONS: dict[tuple[str, str], Callable[[Path, Path], list[Converted]]] = {
    ("coco", "yolo"): coco_to_yolo,
    ("roboflow", "yolo"): coco_to_yolo,
    ("yolo", "coco"): yolo_to_coco,
    ("voc", "coco"): voc_to_coco,
}


def run_convert(source: Path, to: str, out: Path) -> None:
    """Convert a dataset to another format.

    Args:
        source: Folder of the dataset: YOLO (data.yaml) or Pascal VOC (XML files) to COCO, COCO or Roboflow to YOLO.
        to: `coco` or `yolo`.
        out: New folder.

    Raises:
        ConfigError: `to` is not known.
        DatasetError: The dataset is of another format or cannot be read, or the folder cannot be written.
    """
    if to not in ("coco", "yolo"):
        raise ConfigError(f"--to {to}: the formats to write are coco and yolo")
    if not source.is_dir():
        raise DatasetError(f"there is no folder {source}")
    try:
        format = str(find_layout(source).format)
    except DatasetError:
        format = "voc"  # which says itself what was looked for
    convert = _CONVERSIONS.get((format, to))
    if convert is None:
        raise DatasetError(f"{source} is in the format {format}: from that there is no way to {to}")
    _print_converted(f"{format} to {to}", convert(source, out))
    say(f"dataset: {out}")


def run_split(source: Path, out: Path, fractions: str, seed: int) -> None:
    """Divide a dataset that has one annotated split into train, valid and test.

    Args:
        source: Folder of the dataset.
        out: New folder.
        fractions: Shares of train, valid and test, such as `0.8,0.1,0.1`.
        seed: Seed of the choice.

    Raises:
        ConfigError: The shares or the seed are no such thing.
        DatasetError: The dataset cannot be read, is divided already, or is too small, or the folder cannot be written.
    """
    try:
        shares = [float(share) for share in fractions.split(",")]
        check_fractions(shares)
    except ValueError as error:
        raise ConfigError(f"--fractions {fractions}: {error}") from None
    if seed < 0:
        raise ConfigError(f"--seed {seed} is negative")
    splits = list(find_layout(source).splits())
    if len(splits) != 1:
        names = ", ".join(split.name for split in splits) or "none"
        raise DatasetError(f"{source} must have one annotated split to divide; it has {len(splits)}: {names}")
    data = read_split(splits[0])
    data = replace(data, options=ReadOptions(measure_split(data, seed).bit_depth))  # dark images look alike
    say(f"comparing {len(data)} images of {splits[0].name} ...")
    _print_split(data, split_dataset(data, out, shares, seed))
    say(f"dataset: {out}")


def run_download(what: str, out: Path, sha256: str | None) -> None:
    """Download a dataset and unpack it.

    Args:
        what: WORKSPACE/PROJECT/VERSION of Roboflow, or the address of a zip or tar.
        out: New folder.
        sha256: What the archive at an address must hash to; `None` accepts any.

    Raises:
        ConfigError: `what` is neither, or a sha256 is given for Roboflow, which makes the archive when asked.
        DatasetError: The archive cannot be fetched, is not what it should be, or is refused.
    """
    names = what.split("/")
    if "://" in what:
        unpacked = fetch_and_unpack(what, out, sha256)
    elif len(names) != 3 or not all(names):
        raise ConfigError(f"{what!r} is neither WORKSPACE/PROJECT/VERSION of Roboflow nor an address with https://")
    elif sha256 is not None:
        raise ConfigError("--sha256 goes with an address: Roboflow makes the archive when it is asked for it")
    else:
        workspace, project, version = names
        unpacked = download(workspace, project, version, out)
    _print_unpacked(out, unpacked)


def _print_converted(what: str, written: Sequence[Converted]) -> None:
    rows = [(split.name, split.images, split.objects) for split in written]
    print_table(f"{what}: written", ("split", "images", "objects"), rows)
    for split in written:
        for note, count in split.notes.items():
            say(f"note: {split.name}: {count} {note}")


def _print_split(data: DetectionData, result: SplitResult) -> None:
    """Print the images of each part, all and by class, and how many had to stay together."""
    images = np.repeat(np.arange(len(data)), np.diff(data.offsets))
    rows: list[Sequence[object]] = [("images", len(data), *map(len, result.rows.values()))]
    for label, name in enumerate(data.class_names):
        having = np.unique(images[data.labels == label])
        rows.append((f"with {name}", len(having), *(np.isin(having, part).sum() for part in result.rows.values())))
    print_table("written, images of each class", ("", "all", *result.rows), rows)
    together = sum(map(len, result.groups))
    say(f"near-duplicates: {together} images in {len(result.groups)} groups, each group in one split")


def _print_unpacked(out: Path, unpacked: Unpacked) -> None:
    say(f"unpacked: {unpacked.files} files, {unpacked.bytes / 1e6:.1f} MB")
    inside = [path for path in out.iterdir() if path.is_dir()]
    root = inside[0] if len(list(out.iterdir())) == 1 and inside else out  # many archives hold one folder
    try:
        layout = find_layout(root)
        say(f"found: {layout.format}, splits {', '.join(split.name for split in layout.splits()) or 'none'}")
    except DatasetError as error:
        say(f"note: {error}")
    say(f"dataset: {root}")
