"""`rfdetr-hwd data split`: divide one annotated split into train, valid and test."""

from typing import TYPE_CHECKING, Annotated

import typer

from rfdetr_hwd.cli.data.accounts import WITHOUT, print_accounts, print_findings, print_written
from rfdetr_hwd.cli.data.options import Allow, DataFormat, Exif, NewDirectory, Seed, Source, Target
from rfdetr_hwd.console import print_table, say, watch
from rfdetr_hwd.errors import ConfigError

if TYPE_CHECKING:
    from rfdetr_hwd.data.layout import Layout, Split
    from rfdetr_hwd.data.stratify import Shares


def split(
    source: Source,
    out: NewDirectory,
    fractions: Annotated[str, typer.Option(help="Fractions of train, valid and test.")] = "0.8,0.1,0.1",
    seed: Seed = 0,
    to: Target = "coco",
    allow: Allow = None,
    format: DataFormat = "auto",
    train: Annotated[
        str | None,
        typer.Option(help="The split to divide: NAME or '{annotations: FILE, images: DIRECTORY}'.", metavar="SPLIT"),
    ] = None,
    exif: Exif = "auto",
) -> None:
    """Divide a split into train, valid and test.

    The parts are stratified by class, and near-duplicate images stay in one part. Invalid entries are skipped, and
    the exit status is 1 unless their kind is accepted.
    """
    from dataclasses import replace

    from rfdetr_hwd.curation.split import count_images, split_dataset, without_unreadable
    from rfdetr_hwd.data.account import unlisted_images
    from rfdetr_hwd.data.decoding_threads import measure_split
    from rfdetr_hwd.data.detect import find_named
    from rfdetr_hwd.data.findings import SKIPPED_ENTRIES, Findings, check_allowed
    from rfdetr_hwd.data.images import ReadOptions
    from rfdetr_hwd.data.near_duplicates import hash_images
    from rfdetr_hwd.data.read import scan_counted

    # Find the one split that is annotated
    allow = allow or []
    check_allowed(allow, "--allow")
    shares = _read_fractions(fractions, seed)
    layout = find_named(source, format, {"train": train})
    whole = layout.split("train") if train else _only_split(layout)

    # Read it
    findings = Findings()
    options = ReadOptions(exif=exif)
    data, account = scan_counted(whole, findings, options, every_header=True)
    findings.refuse_errors(allow, by_option=True, later=SKIPPED_ENTRIES if len(data.labels) else ())

    # Find near-duplicate images
    options = replace(options, bit_depth=measure_split(data, seed).bit_depth)  # dark images look alike
    data = replace(data, options=options)
    say(f"comparing {len(data)} images of {whole.name} ...")
    hashes = hash_images(data, lambda images: watch("comparing images", len(data), images))
    unlisted = list(unlisted_images(layout.root, [(data, account)]))
    data, hashes, account = without_unreadable(data, hashes, account, findings)

    # Divide and write
    result = split_dataset(data, hashes, shares, out, layout.root, to)

    # Report the result
    print_findings(findings)
    print_table("written images per class", ("", "all", *result.rows), count_images(data, result.rows))
    together = sum(map(len, result.groups))
    say(f"near-duplicates: {together} images in {len(result.groups)} groups, each group in one split")
    print_accounts("read and used", [account], unlisted)
    print_written(result.written)
    say(f"dataset: {out}")
    findings.refuse_errors(allow, by_option=True, done=WITHOUT.format(out))


def _only_split(layout: "Layout") -> "Split":
    from rfdetr_hwd.data.findings import DatasetError

    splits = list(layout.splits())
    if len(splits) != 1:
        there = ", ".join(split.name for split in splits or layout.found) or "none"
        raise DatasetError(
            f"{layout.root} must have one annotated split to divide, but has {len(splits)}: {there}. Choose one "
            "with --train NAME"
        )
    return splits[0]


def _read_fractions(fractions: str, seed: int) -> "Shares":
    from rfdetr_hwd.curation.split import check_fractions
    from rfdetr_hwd.data.stratify import Shares

    try:
        parts = [float(part) for part in fractions.split(",")]
        check_fractions(parts)
    except ValueError as error:
        raise ConfigError(f"--fractions {fractions}: {error}") from None
    return Shares(parts, seed)
