"""`rfdetr-hwd data check`: find problems that would break or distort training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rfdetr_hwd.cli.data.accounts import print_accounts
from rfdetr_hwd.cli.data.options import Allow, DataFormat, Exif, Source, TestSplit, TrainSplit, ValSplit
from rfdetr_hwd.console import print_table, say, watch
from rfdetr_hwd.errors import writing

if TYPE_CHECKING:
    from rfdetr_hwd.curation.check import Report

_EXAMPLES = 2
_CLASSES = 12


def check(
    root: Source,
    format: DataFormat = "auto",
    decode: Annotated[bool, typer.Option(help="Decode every image.")] = True,
    queries: Annotated[int, typer.Option(help="Object queries of the model.", min=1)] = 300,
    allow: Allow = None,
    json: Annotated[Path | None, typer.Option(help="Also write the report to this JSON file.")] = None,
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    bit_depth: Annotated[
        Literal["auto", "8", "10", "12", "14", "16"],
        typer.Option(help="Bit depth of the values in 16-bit files."),
    ] = "auto",
    exif: Exif = "auto",
) -> None:
    """Find errors in a dataset.

    Reports problems that would break or distort training. The exit status is 1 if there are errors that are not
    accepted.
    """
    from json import dumps

    from rfdetr_hwd.curation.check import check_dataset
    from rfdetr_hwd.data.detect import find_named, say_remarks
    from rfdetr_hwd.data.findings import KINDS, DatasetError, check_allowed

    # Find and read the dataset
    allow = allow or []
    check_allowed(allow, "--allow")
    layout = find_named(root, format, {"train": train, "val": val, "test": test})
    report = check_dataset(layout, decode, queries, watch, None if bit_depth == "auto" else int(bit_depth), exif)

    # Write and print the report
    if json is not None:
        with writing("--json", json):
            json.write_text(dumps(report.as_json(layout), indent=1), encoding="utf-8")
    _print_report(report)
    print_accounts("read and used", [split.account for split in report.splits], report.unlisted)
    say_remarks(layout)

    # End with an error if there are any that are not accepted
    errors = report.findings.kinds("error", allow)
    if errors:
        count = sum(report.findings.counts[kind] for kind in errors)
        accepted = " ".join(f"--allow {kind}" for kind in errors if KINDS[kind].can_allow)
        advice = f". Fix them, or accept with {accepted}" if accepted else ""
        raise DatasetError(f"{root}: {count} errors of {len(errors)} kinds ({', '.join(errors)}){advice}")
    say("no errors" + (" other than the accepted ones" if report.findings.kinds("error") else ""))


def _print_report(report: "Report") -> None:
    from rfdetr_hwd.data.findings import KINDS

    findings = report.findings
    for split in report.splits:
        classes = ", ".join(f"{name} {count}" for name, count in list(split.objects.items())[:_CLASSES])
        more = ", ..." if len(split.objects) > _CLASSES else ""
        say(f"{split.name}: {split.images} images, {sum(split.objects.values())} objects ({classes}{more})")
    kinds = [*findings.kinds("error"), *findings.kinds("notice")]
    if kinds:
        rows = [(KINDS[kind].level, kind, findings.counts[kind], KINDS[kind].effect) for kind in kinds]
        print_table("findings", ("level", "kind", "count", "effect"), rows)
    for kind in kinds:
        for example in findings.examples[kind][:_EXAMPLES]:
            say(f"{kind}: {example}")
