"""`rfdetr-hwd data download`: download a dataset from Roboflow or a URL."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfdetr_hwd.cli.data.options import NewDirectory
from rfdetr_hwd.console import say
from rfdetr_hwd.errors import ConfigError

if TYPE_CHECKING:
    from rfdetr_hwd.curation.archive import Unpacked


def download(
    what: Annotated[str, typer.Argument(help="WORKSPACE/PROJECT/VERSION of Roboflow, or URL of a zip or tar archive.")],
    out: NewDirectory,
    sha256: Annotated[str | None, typer.Option(help="Expected sha256 of the archive at a URL.")] = None,
) -> None:
    """Download a dataset and unpack it safely."""
    unpacked = _fetch(what, out, sha256)
    say(f"unpacked: {unpacked.files} files, {unpacked.bytes / 1e6:.1f} MB")
    _say_layout(out)


def _fetch(what: str, out: Path, sha256: str | None) -> "Unpacked":
    from rfdetr_hwd.curation.fetch import fetch_and_unpack
    from rfdetr_hwd.curation.roboflow import download as download_export

    names = what.split("/")
    if "://" in what:
        return fetch_and_unpack(what, out, sha256)
    if len(names) != 3 or not all(names):
        raise ConfigError(f"{what!r} is neither WORKSPACE/PROJECT/VERSION of Roboflow nor a URL with https://")
    if sha256 is not None:
        raise ConfigError("--sha256 works with a URL only: Roboflow creates its archives on request. Remove --sha256")
    workspace, project, version = names
    return download_export(workspace, project, version, out)


def _say_layout(out: Path) -> None:
    from rfdetr_hwd.data.detect import find_layout, say_remarks
    from rfdetr_hwd.data.findings import DatasetError

    inside = [path for path in out.iterdir() if path.is_dir()]
    root = inside[0] if len(list(out.iterdir())) == 1 and inside else out  # many archives hold one directory
    try:
        layout = find_layout(root)
        say(f"found: {layout.format}, splits {', '.join(split.name for split in layout.splits()) or 'none'}")
        say_remarks(layout)
    except DatasetError as error:
        say(f"note: {error}")
    say(f"dataset: {root}")
