"""YAML that may come from anyone: bounded, without aliases, duplicate keys and tags that build objects."""

from pathlib import Path
from typing import Any

import yaml

from rfdetr_hwd.errors import ConfigError

MAX_CONFIG_BYTES = 1 << 20


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file of bounded size, without aliases and duplicate keys.

    Raises:
        ConfigError: The file is missing, too large, not YAML or not a mapping.
    """
    try:
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} has {size} bytes; a configuration has at most {MAX_CONFIG_BYTES}")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    try:
        values = load_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of sections (model, data, train, ...)")
    return values


def load_yaml(text: str) -> Any:
    """Return the value of a YAML text; `yaml.YAMLError`, `ValueError` or `RecursionError` if it is none."""
    return _StrictLoader(text).get_single_data()


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses aliases (a small file could expand without bound) and duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} stands twice in one mapping (line {node.start_mark.line + 1})")
        return super().construct_mapping(node, deep)
