"""Detect the layout of a dataset: its format and its splits, as a configuration or the command line names them."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from rfdetr_hwd.config.schema import DataSection, SplitSection
from rfdetr_hwd.console import say
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.formats import Format
from rfdetr_hwd.data.images import ReadOptions
from rfdetr_hwd.data.inventory import describe_contents
from rfdetr_hwd.data.layout import USUAL_NAMES, Found, Layout, SplitFiles, SplitName
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.read import READERS
from rfdetr_hwd.data.roles import ROLES, Role
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.files import load_yaml

NO_OPTIONS: Mapping[Role, str | None] = {}


def find_data(settings: DataSection, options: Mapping[Role, str | None] = NO_OPTIONS) -> Layout:
    """Return the dataset of a configuration.

    Args:
        settings: The configuration.
        options: Options of the command line, which take precedence; see `find_named`.

    Raises:
        ConfigError: An option is neither a name nor a mapping.
        DatasetError: The dataset is not there, or not recognised.
    """
    configured = {"train": settings.train, "val": settings.val, "test": settings.test}
    names = {role: _parse_name(role, options.get(role)) or _to_name(configured[role]) for role in ROLES}
    return find_layout(settings.root, settings.format, names)


def read_options(settings: DataSection) -> ReadOptions:
    """Return how images are read. An undetected bit depth counts as 16."""
    return ReadOptions(bit_depth=16 if settings.bit_depth == "auto" else settings.bit_depth, exif=settings.exif)


def find_named(root: Path, format: Format | Literal["auto"], options: Mapping[Role, str | None]) -> Layout:
    """Return a dataset whose splits the command line may name.

    Args:
        root: Its directory.
        format: Its format, or `auto`.
        options: `--train`, `--val` and `--test`: a name, or a mapping in YAML, as the configuration takes it.

    Raises:
        ConfigError: An option is neither.
        DatasetError: The dataset is not there, or not recognised.
    """
    return find_layout(root, format, {role: _parse_name(role, text) for role, text in options.items()})


def find_layout(
    root: str | Path, format: Format | Literal["auto"] = "auto", names: Mapping[Role, SplitName] = USUAL_NAMES
) -> Layout:
    """Recognise a dataset by what lies in its directory.

    Of several formats the first is taken that has something to train on and to validate, or else the first.

    Args:
        root: The directory.
        format: Its format, or `auto`.
        names: How the user names splits.

    Raises:
        DatasetError: The directory is missing or nothing in it is known; the message says what is there.
    """
    root = Path(root)
    if not root.is_dir():
        where = "" if root.is_absolute() else f" in {Path.cwd()}"
        what = f"{root} is a file: give its directory" if root.is_file() else f"there is no directory {root}{where}"
        raise DatasetError(f"data.root: {what}")

    # Ask each format whether it knows the directory
    files = FileList.scan(root)
    found, reasons = _ask(
        [known for known in READERS if known != "roboflow"] if format == "auto" else [format], root, files
    )

    # Explain that none does, unless the user names the files of each split
    if not found:
        if any(_is_path(name) for name in names.values()):
            return Layout(root, "coco" if format == "auto" else format, (), (), names)
        if reasons:
            raise DatasetError(reasons[0])
        other = next(iter(_ask(READERS, root, files)[0]), None) if format != "auto" else None
        if other:
            raise DatasetError(f"{root} is not in the format {format} (data.format, --format): it is {other}")
        raise DatasetError(f"{root} has no known layout. {describe_contents(root, files)}")

    # Choose a format, and name the others
    chosen = max(found, key=lambda known: len({split.role for split in found[known].splits} & {"train", "val"}))
    splits, notes, missing = found[chosen]
    notes = (*notes, *reasons)
    others = [known for known in found if known != chosen]
    if others:
        notes = (*notes, f"it is also in the format {' and '.join(others)}: choose with --format (data.format)")
    if chosen == "coco" and all(split.format == "roboflow" for split in splits):
        chosen = "roboflow"
    return Layout(root, chosen, splits, notes, names, files.image_counts, missing)


def say_remarks(layout: Layout, needed: Collection[Role] = ("train", "val")) -> None:
    """Print the unused parts of a dataset, and the splits that `train` still needs."""
    for remark in layout.remarks(needed):
        say(f"note: {remark}")


def _parse_name(role: Role, text: str | None) -> SplitName:
    if text is None or not text.lstrip().startswith("{"):
        return text
    try:
        return _to_name(SplitSection.model_validate(load_yaml(text)))
    except (ValidationError, yaml.YAMLError, RecursionError, ValueError):
        form = "NAME or '{annotations: FILE, images: DIRECTORY}'"
        raise ConfigError(f"--{role} must be {form}, not {text!r}") from None


def _to_name(section: str | SplitSection | None) -> SplitName:
    return SplitFiles(section.annotations, section.images) if isinstance(section, SplitSection) else section


def _ask(formats: Iterable[Format], root: Path, files: FileList) -> tuple[dict[Format, Found], list[str]]:
    """Return what each format finds, and why one that is there cannot be told."""
    found: dict[Format, Found] = {}
    reasons = []
    for known in formats:
        try:
            splits = READERS[known].find(root, files)
        except DatasetError as error:
            reasons.append(str(error))
            continue
        if splits is not None:
            found[known] = splits
    return found, reasons


def _is_path(name: SplitName) -> bool:
    return isinstance(name, SplitFiles) or (name is not None and name.lower().endswith(".json"))
