"""`rfdetr-hwd data convert`, `split` and `download`: make a new dataset folder out of something else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from rfdetr_hwd.cli.accounts import print_accounts, print_findings, print_written
from rfdetr_hwd.console import print_table, say, watch
from rfdetr_hwd.curation.archive import Unpacked
from rfdetr_hwd.curation.convert import TARGETS, Target, convert
from rfdetr_hwd.curation.fetch import fetch_and_unpack
from rfdetr_hwd.curation.roboflow import download
from rfdetr_hwd.curation.split import SplitResult, check_fractions, split_dataset
from rfdetr_hwd.data.account import Account, unlisted_images
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.decode import measure_split
from rfdetr_hwd.data.findings import SKIPPED_ENTRIES, DatasetError, Findings, check_allowed
from rfdetr_hwd.data.images import ReadOptions
from rfdetr_hwd.data.layout import Format
from rfdetr_hwd.data.layouts import find_layout, scan_counted
from rfdetr_hwd.data.near_duplicates import Hashes, hash_images
from rfdetr_hwd.data.open import NOTHING_SAID, find_named, parse_exif, say_remarks
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.data.stratify import Shares
from rfdetr_hwd.errors import ConfigError

Said = Mapping[Role, str | None]

_WITHOUT = "{} is written without the entries that are wrong:"


def run_convert(
    source: Path,
    to: str,
    out: Path,
    allow: Sequence[str] = (),
    format: Format | Literal["auto"] = "auto",
    said: Said = NOTHING_SAID,
    exif: str = "auto",
) -> None:
    """Write a dataset in another format.

    Args:
        source: Directory of the dataset, in any layout that is read.
        to: `coco` or `yolo`.
        out: New directory.
        allow: Kinds of error to accept, as in `data.allow`.
        format: Format of the dataset, or `auto`.
        said: What `--train`, `--val` and `--test` say.
        exif: As `data.exif`.

    Raises:
        ConfigError: `to` or `exif` is not known.
        DatasetError: The dataset cannot be read, has errors that are not accepted, or the directory cannot be written.
            Where single entries are wrong, the rest was written.
    """
    target = _check_target(to)
    options = ReadOptions(exif=parse_exif(exif))
    layout = find_named(source, format, said)
    converted = convert(layout, target, out, allow, options)
    print_findings(converted.findings)
    print_accounts(f"{layout.format} to {to}", converted.accounts, converted.unlisted, converted.written)
    say_remarks(layout)
    say(f"dataset: {out}")
    converted.findings.refuse_errors(allow, by_option=True, done=_WITHOUT.format(out))


def run_split(
    source: Path,
    out: Path,
    fractions: str,
    seed: int,
    to: str = "coco",
    allow: Sequence[str] = (),
    format: Format | Literal["auto"] = "auto",
    said: Said = NOTHING_SAID,
    exif: str = "auto",
) -> None:
    """Divide a dataset that has one annotated split into train, valid and test.

    Args:
        source: Directory of the dataset, in any layout that is read.
        out: New directory.
        fractions: Shares of train, valid and test, such as `0.8,0.1,0.1`.
        seed: Seed of the choice.
        to: Format of what is written: `coco` or `yolo`.
        allow: Kinds of error to accept, as in `data.allow`.
        format: Format of the dataset, or `auto`.
        said: What `--train` says, which is then the split that is divided.
        exif: As `data.exif`.

    Raises:
        ConfigError: The shares, the seed or the format are no such thing.
        DatasetError: The dataset cannot be read, has errors that are not accepted, is divided already, or is too small,
            or the directory cannot be written. Where single entries are wrong, the rest was written.
    """
    target = _check_target(to)
    check_allowed(allow, "--allow")
    shares = _read_shares(fractions, seed)
    options = ReadOptions(exif=parse_exif(exif))
    layout = find_named(source, format, said)
    splits = [layout.split("train")] if said.get("train") else list(layout.splits())
    if len(splits) != 1:
        there = ", ".join(split.name for split in splits or layout.found) or "none"
        raise DatasetError(
            f"{source} must have one annotated split to divide; it has {len(splits)}: {there}. Choose with --train NAME"
        )
    findings = Findings()
    data, account = scan_counted(splits[0], findings, options, every_header=True)
    findings.refuse_errors(allow, by_option=True, later=SKIPPED_ENTRIES if len(data.labels) else ())
    options = replace(options, bit_depth=measure_split(data, seed).bit_depth)  # dark images look alike
    data = replace(data, options=options)
    say(f"comparing {len(data)} images of {splits[0].name} ...")
    hashes = hash_images(data, lambda images: watch("comparing images", len(data), images))
    unlisted = list(unlisted_images(layout.root, [(data, account)]))
    data, hashes, account = _without_unreadable(data, hashes, account, findings)
    result = split_dataset(data, hashes, shares, out, layout.root, target)
    print_findings(findings)
    _print_split(data, result)
    print_accounts("read and used", [account], unlisted)
    print_written(result.written)
    say(f"dataset: {out}")
    findings.refuse_errors(allow, by_option=True, done=_WITHOUT.format(out))


def _check_target(to: str) -> Target:
    for target in TARGETS:
        if to == target:
            return target
    raise ConfigError(f"--to {to}: the formats to write are {' and '.join(TARGETS)}")


def _read_shares(fractions: str, seed: int) -> Shares:
    try:
        shares = [float(share) for share in fractions.split(",")]
        check_fractions(shares)
    except ValueError as error:
        raise ConfigError(f"--fractions {fractions}: {error}") from None
    if seed < 0:
        raise ConfigError(f"--seed {seed} is negative")
    return Shares(shares, seed)


def _without_unreadable(
    data: DetectionData, hashes: Hashes, account: Account, findings: Findings
) -> tuple[DetectionData, Hashes, Account]:
    """Return a split without the images that cannot be decoded, each of which becomes a finding."""
    if not hashes.unreadable:
        return data, hashes, account
    for row, reason in hashes.unreadable.items():
        findings.add("unreadable_image", data.path(row), f"image {data.image_ids[row]}", reason)
    rows = np.array([row for row in range(len(data)) if row not in hashes.unreadable], dtype=np.intp)
    kept = data.take(rows, data.name)
    return kept, Hashes(hashes.values[rows], {}), account.without(len(hashes.unreadable), kept)


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
        say_remarks(layout)
    except DatasetError as error:
        say(f"note: {error}")
    say(f"dataset: {root}")
