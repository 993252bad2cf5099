"""The summary that the verbs of `rfdetr-hwd data` print: entries read, used and skipped, with the reasons."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rfdetr_hwd.console import print_table, say

if TYPE_CHECKING:
    from rfdetr_hwd.curation.write import Written
    from rfdetr_hwd.data.account import Account
    from rfdetr_hwd.data.findings import Findings

WITHOUT = "{} was written without the invalid entries:"
_HEADER = ("split", "images listed", "images used", "objects listed", "objects used")
_WRITTEN = ("written as", "images", "objects")


def print_accounts(
    title: str, accounts: "Sequence[Account]", unlisted: Sequence[Path] = (), written: "Sequence[Written]" = ()
) -> None:
    """Print the listed and used entries of each split, and a line for each reason why entries were skipped.

    Args:
        title: Title of the table.
        accounts: The entries that were read.
        unlisted: Image files that no split lists.
        written: The entries that were written of each split, if any.
    """
    rows: list[list[object]] = [[a.name, a.listed_images, a.images, a.listed_objects, a.objects] for a in accounts]
    for row, split in zip(rows, written, strict=False):
        row += [split.name, split.images, split.objects]
    if unlisted:
        rows.append(["(in no split)", len(unlisted), 0])
    print_table(title, [*_HEADER, *(_WRITTEN if written else ())], rows)
    for account in accounts:
        for reason, count in account.skipped.items():
            say(f"{account.name}: {reason}: {count}")
    if unlisted:
        say(f"images in no split, ignored: {len(unlisted)}, the first: {unlisted[0]}")
    print_written(written)


def print_written(written: "Sequence[Written]") -> None:
    """Print the notes about splits that were written."""
    for split in written:
        for reason, count in {**split.skipped, **split.notes}.items():
            say(f"{split.name}: {reason}: {count}")


def print_findings(findings: "Findings") -> None:
    """Print the count of each kind of finding, with its effect and the first example."""
    from rfdetr_hwd.data.findings import KINDS

    for kind in (*findings.kinds("error"), *findings.kinds("notice")):
        say(f"{kind}: {findings.counts[kind]}, {KINDS[kind].effect}, the first: {findings.examples[kind][0]}")
