"""`rfdetr-hwd data`: work on datasets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from rfdetr_hwd.cli.accounts import print_accounts
from rfdetr_hwd.console import print_table, say, watch
from rfdetr_hwd.curation.check import Report, check_dataset
from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes
from rfdetr_hwd.data.deep_images import BIT_DEPTHS
from rfdetr_hwd.data.findings import KINDS, DatasetError, check_allowed
from rfdetr_hwd.data.layout import Format
from rfdetr_hwd.data.open import find_named, parse_exif, say_remarks
from rfdetr_hwd.data.roles import Role
from rfdetr_hwd.errors import ConfigError

_EXAMPLES = 2


def run_demo(out: Path, seed: int) -> None:
    """Write the built-in dataset.

    Args:
        out: Folder of the dataset.
        seed: Seed of the drawing; 0 is the demo's.

    Raises:
        ConfigError: The folder cannot be written.
    """
    if seed < 0:
        raise ConfigError(f"--seed {seed} is negative")
    spec = ShapesSpec(seed=seed)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out} is there already: name a new folder")
    try:
        write_shapes(out, spec)
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}") from None
    say(f"dataset: {out} ({spec.train} training, {spec.valid} validation, {spec.test} test images)")


def run_check(
    root: Path,
    format: Format | Literal["auto"],
    decode: bool,
    num_queries: int,
    allow: list[str],
    json_file: Path | None,
    said: Mapping[Role, str | None],
    bit_depth: str = "auto",
    exif: str = "auto",
) -> None:
    """Check a dataset and print what was found.

    Args:
        root: Folder of the dataset.
        format: Its format, or `auto`.
        decode: Also decode every image.
        num_queries: Object queries of the model.
        allow: Kinds of error to accept, as in `data.allow`.
        json_file: Also write the report here.
        said: What `--train`, `--val` and `--test` say.
        bit_depth: As `data.bit_depth`.
        exif: As `data.exif`.

    Raises:
        DatasetError: There are errors that are not accepted.
    """
    if num_queries < 1:
        raise ConfigError(f"--queries {num_queries} is not positive")
    if bit_depth not in ("auto", *map(str, BIT_DEPTHS)):
        raise ConfigError(f"--bit-depth {bit_depth} is not one of auto, {', '.join(map(str, BIT_DEPTHS))}")
    rotation = parse_exif(exif)
    check_allowed(allow, "--allow")
    layout = find_named(root, format, said)
    depth = None if bit_depth == "auto" else int(bit_depth)
    report = check_dataset(layout, decode, num_queries, watch, depth, rotation)
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(report.as_json(layout), indent=1), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--json: cannot write to {json_file}: {error.strerror}") from None
    _print_report(report)
    print_accounts("read and used", [split.account for split in report.splits], report.unlisted)
    say_remarks(layout)
    errors = report.findings.kinds("error", allow)
    if errors:
        count = sum(report.findings.counts[kind] for kind in errors)
        accepted = " ".join(f"--allow {kind}" for kind in errors if KINDS[kind].can_allow)
        advice = f". Fix them, or accept with {accepted}" if accepted else ""
        raise DatasetError(f"{root}: {count} errors of {len(errors)} kinds ({', '.join(errors)}){advice}")
    say("no errors" + (" that are not accepted" if report.findings.kinds("error") else ""))


def _print_report(report: Report) -> None:
    findings = report.findings
    for split in report.splits:
        classes = ", ".join(f"{name} {count}" for name, count in list(split.objects.items())[:12])
        more = ", ..." if len(split.objects) > 12 else ""
        say(f"{split.name}: {split.images} images, {sum(split.objects.values())} objects ({classes}{more})")
    kinds = [*findings.kinds("error"), *findings.kinds("notice")]
    if kinds:
        rows = [(KINDS[kind].level, kind, findings.counts[kind], KINDS[kind].effect) for kind in kinds]
        print_table("findings", ("level", "kind", "count", "effect"), rows)
    for kind in kinds:
        for example in findings.examples[kind][:_EXAMPLES]:
            say(f"{kind}: {example}")
