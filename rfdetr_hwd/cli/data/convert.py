"""`rfdetr-hwd data convert`: write a dataset in another format."""

from rfdetr_hwd.cli.data.accounts import WITHOUT, print_accounts, print_findings
from rfdetr_hwd.cli.data.options import (
    Allow,
    DataFormat,
    Exif,
    NewDirectory,
    Source,
    Target,
    TestSplit,
    TrainSplit,
    ValSplit,
)
from rfdetr_hwd.console import say


def convert(
    source: Source,
    to: Target,
    out: NewDirectory,
    allow: Allow = None,
    format: DataFormat = "auto",
    train: TrainSplit = None,
    val: ValSplit = None,
    test: TestSplit = None,
    exif: Exif = "auto",
) -> None:
    """Convert a dataset to another format.

    Invalid entries are skipped, and the exit status is 1 unless their kind is accepted. Errors that affect the rest
    of the dataset abort the conversion before anything is written.
    """
    from rfdetr_hwd.curation.convert import convert as convert_dataset
    from rfdetr_hwd.data.detect import find_named, say_remarks
    from rfdetr_hwd.data.images import ReadOptions

    layout = find_named(source, format, {"train": train, "val": val, "test": test})
    converted = convert_dataset(layout, to, out, allow or [], ReadOptions(exif=exif))

    # Report what was skipped, before it is refused
    print_findings(converted.findings)
    print_accounts(f"{layout.format} to {to}", converted.accounts, converted.unlisted, converted.written)
    say_remarks(layout)
    say(f"dataset: {out}")
    converted.findings.refuse_errors(allow or [], by_option=True, done=WITHOUT.format(out))
