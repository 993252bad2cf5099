"""Read a configuration: from YAML, overridden by `key=value`.

The error for an unknown key or a bad value names the dotted key, the value, the allowed values and the nearest key.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rfdetr_hwd.config.augmentation import PRESET
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.config.validation import reason
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.files import load_yaml, read_yaml

FORMER: Mapping[str, Any] = {"train.last_batch": "keep", "data.bit_depth": 16, "evaluation.raw_every": 1}
"""Keys that were added later, and their value in a configuration recorded without them."""


RENAMED: Mapping[str, str] = {"output.save_every_updates": "output.save_every_steps"}
"""Keys by their former names, which recorded configurations may have."""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a YAML file, apply `key=value` overrides and validate.

    Args:
        path: YAML file, at most 1 MiB, without aliases.
        overrides: Dotted assignments such as `train.epochs=12`; the value is YAML.

    Returns:
        The frozen configuration.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or a value is not allowed.
    """
    return parse_config(read_yaml(Path(path)), overrides, origin=str(path))


def parse_config(values: Mapping[str, Any], overrides: Iterable[str] = (), origin: str = "configuration") -> Config:
    """Validate nested values after applying `key=value` overrides; see `load_config`."""
    overrides = as_overrides(overrides)
    merged = _merge_overrides(values, overrides)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        # A key of several types has a reason for each of them.
        found: dict[str, str] = {}
        for detail in error.errors(include_url=False):
            key = _key(detail)
            found[key] = f"{found[key]}, or {reason(detail)}" if key in found else _explain(detail)
        # A reason within a key says more than that the whole value could have been of another type.
        exact = [text for key, text in found.items() if not any(other.startswith(f"{key}.") for other in found)]
        where = f"{origin} with the command-line overrides" if overrides else origin
        raise ConfigError("\n  ".join([f"{where} is not valid:", *exact])) from None


def as_overrides(overrides: Iterable[str]) -> list[str]:
    """Return overrides as a list.

    Raises:
        ConfigError: They are one string, whose letters would be taken for overrides.
    """
    if isinstance(overrides, str):
        raise ConfigError(f"overrides are a list: write [{overrides!r}], not {overrides!r}")
    return list(overrides)


def override(config: Config, overrides: Iterable[str]) -> Config:
    """Return a configuration with `key=value` overrides. Keys that were not set stay so."""
    return parse_config(config.model_dump(mode="json", exclude_unset=True), overrides)


def parse_recorded(values: Mapping[str, Any], overrides: Iterable[str] = (), origin: str = "configuration") -> Config:
    """Validate a recorded configuration. A key that was added later has its former value."""
    return parse_config(_with_former(values), overrides, origin)


def keep_former(config: Config, recorded: Mapping[str, Any]) -> Config:
    """Return the configuration to resume a run with. An unset key that was added later keeps the run's value.

    Args:
        config: A configuration. Its unset keys have today's defaults.
        recorded: The values that the run has recorded.
    """
    for key, former in FORMER.items():
        section, name = key.split(".")
        part = getattr(config, section)
        if name not in part.model_fields_set:
            value = recorded.get(section, {}).get(name, former)
            config = config.model_copy(update={section: part.model_copy(update={name: value})})
    return config


def with_bit_depth(config: Config, bit_depth: int | str) -> Config:
    """Return the configuration with the detected bit depth, if `data.bit_depth` is auto."""
    if config.data.bit_depth != "auto":
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"bit_depth": bit_depth})})


def _with_former(values: Mapping[str, Any]) -> Mapping[str, Any]:
    filled = _renamed(values)
    for key, former in FORMER.items():
        section, name = key.split(".")
        part = filled.get(section, {})
        if isinstance(part, Mapping):
            filled[section] = {name: former, **part}
    return filled


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded values with today's name of each key."""
    renamed = {name: dict(part) if isinstance(part, Mapping) else part for name, part in values.items()}
    for key, new in RENAMED.items():
        section, name = key.split(".")
        part = renamed.get(section)
        if isinstance(part, dict) and name in part:
            part.setdefault(new.partition(".")[2], part.pop(name))
    return renamed


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of the configuration."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def unknown_key(key: str) -> str:
    """Return the message about an unknown key."""
    if key in RENAMED:
        return f"{key} was renamed to {RENAMED[key]}"
    near = difflib.get_close_matches(key, [*known_keys(), *Config.model_fields], n=1, cutoff=0.5)
    return f"{key}: unknown key" + (f"; the nearest known key is {near[0]}" if near else "")


def override_keys(overrides: Iterable[str]) -> list[str]:
    """Return the dotted keys that overrides assign."""
    return [override.partition("=")[0].strip() for override in overrides]


def _merge_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    merged = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    overrides = list(overrides)
    if PRESET in override_keys(overrides):  # the parts that a file or a record has are those of another preset
        _assign(merged, PRESET.split(".")[:-1], {})
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"{override!r} is not an override: write key=value, for example train.epochs=12")
        try:
            value = load_yaml(text)
        except (yaml.YAMLError, RecursionError, ValueError):
            raise ConfigError(f"the value of {key} is not valid YAML: {text!r}") from None
        _assign(merged, key.strip().split("."), value)
    return merged


def _assign(values: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        child = values.get(name)
        values[name] = dict(child) if isinstance(child, Mapping) else {}
        values = values[name]
    values[path[-1]] = value


def _key(detail: ErrorDetails) -> str:
    """Return the dotted key, without the type that pydantic adds where a value may have one of several types."""
    parts = list(map(str, detail["loc"] or ("",)))
    if len(named := [part for part in parts if not part.startswith("dict[")]) < len(parts):
        return ".".join(named)
    *parents, last = parts
    return key if (key := ".".join(parents)) in set(known_keys()) and not last.isdigit() else ".".join([*parents, last])


def _explain(detail: ErrorDetails) -> str:
    key = _key(detail)
    match detail["type"]:
        case "extra_forbidden":
            return unknown_key(key)
        case "missing":
            field = Config.model_fields[key].annotation if key in Config.model_fields else None
            if isinstance(field, type) and issubclass(field, BaseModel):
                key = ", ".join(f"{key}.{name}" for name, child in field.model_fields.items() if child.is_required())
            return f"{key}: required; set it in the file or as {key}=VALUE"
        case "tuple_type" | "list_type":
            return f"{key} = {detail['input']!r}: must be a list, such as {key}=[{detail['input']}]"
        case "value_error":
            return f"{key}: {reason(detail)}" if key else reason(detail)
        case _:
            return f"{key} = {detail['input']!r}: {reason(detail)}"
