"""Find the dataset that a configuration or the command line names, and report its unused parts."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from rfdetr_hwd.config.schema import DataSection, SplitSection
from rfdetr_hwd.console import say
from rfdetr_hwd.data.formats import Format
from rfdetr_hwd.data.layout import Layout, SplitFiles, SplitName
from rfdetr_hwd.data.layouts import find_layout
from rfdetr_hwd.data.roles import ROLES, Role
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.files import load_yaml

NOTHING_SAID: Mapping[Role, str | None] = {}


def find_data(settings: DataSection, said: Mapping[Role, str | None] = NOTHING_SAID) -> Layout:
    """Return the dataset of a configuration.

    Args:
        settings: The configuration.
        said: What options of the command line say beside it; see `find_named`.

    Raises:
        ConfigError: What one of the options says is no split.
        DatasetError: The dataset is not there, or not recognised.
    """
    configured = {"train": settings.train, "val": settings.val, "test": settings.test}
    names = {role: _parse_name(role, said.get(role)) or _to_name(configured[role]) for role in ROLES}
    return find_layout(settings.root, settings.format, names)


def find_named(root: Path, format: Format | Literal["auto"], said: Mapping[Role, str | None]) -> Layout:
    """Return a dataset whose splits the command line may name.

    Args:
        root: Its directory.
        format: Its format, or `auto`.
        said: What `--train`, `--val` and `--test` say: a name, or a mapping in YAML, as the configuration takes it.

    Raises:
        ConfigError: What one of them says is neither.
        DatasetError: The dataset is not there, or not recognised.
    """
    return find_layout(root, format, {role: _parse_name(role, text) for role, text in said.items()})


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
