"""The names of classes that are numbered in pictures, because no installed font has their characters."""

from collections.abc import Sequence
from pathlib import Path

from rfdetr_hwd.console import say
from rfdetr_hwd.errors import writing
from rfdetr_hwd.report.lettering import legend


def write_legend(out: Path, class_names: Sequence[str]) -> None:
    """Write `legend.txt` if any class is numbered, and report it.

    Args:
        out: Directory of the pictures.
        class_names: Class names in label order.

    Raises:
        ConfigError: The file cannot be written.
    """
    lines = legend(class_names)
    if not lines:
        return
    with writing("--out", out):
        (out / "legend.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    say(f"no installed font has the characters of {len(lines)} class names. For their numbers see {out / 'legend.txt'}")
