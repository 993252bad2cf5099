"""Write docs/configuration.md from the schema of the configuration: each key, its default, its values, its meaning.

usage: python scripts/write_configuration_page.py
"""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pages import DOCS

from rfdetr_hwd.config.experiment import Experiment
from rfdetr_hwd.config.schema import Config

PAGE = DOCS / "configuration.md"

INTRODUCTION = """\
# Configuration

This page is generated from the schema of the configuration: `make pages` writes it again.

One YAML file configures one run. `configs/` holds complete ones. A key that a file does not set has its default.
Each key can also be set on the command line, by its dotted name. The value is YAML.

```bash
rfdetr-hwd train --config configs/coco.yaml train.epochs=24 model.levels='[P4, P5]' data.augment.flip=0.0
```

Unknown keys and bad values are refused before anything is loaded. The message names the key, the value, what is allowed
and the nearest known key. The run directory keeps the resolved configuration as `config.yaml`.
"""

EXPERIMENTS = """
# The file of an experiment

One YAML file describes the runs of `rfdetr-hwd experiment`: `configs/experiments/` holds examples. Keys of the
configuration are written by their dotted names or nested, as in a configuration.
"""


def write_page() -> str:
    """Return the page as Markdown."""
    schema = Config.model_json_schema()
    top: list[str] = []
    sections: list[str] = []
    for name, field in schema["properties"].items():
        if is_section(field, schema):
            sections += write_section(name, target(field, schema), schema)
        else:
            top += [write_row(name, field, name in schema.get("required", ()), schema)]
    own = [INTRODUCTION, *sections, "## Outside the sections", "", *HEAD, *top]
    return "\n".join([*own, EXPERIMENTS, *write_experiment()]) + "\n"


def write_experiment() -> Iterator[str]:
    """Yield the lines about the file of an experiment."""
    schema = Experiment.model_json_schema()
    yield from HEAD
    for name, field in schema["properties"].items():
        parts = target(field, schema)["properties"] if is_section(field, schema) else {}
        if not parts:
            yield write_row(name, field, name in schema["required"], schema)
        for key, part in parts.items():
            yield write_row(f"{name}.{key}", part, False, schema)


HEAD = ("| key | default | values | meaning |", "|---|---|---|---|")


def write_section(name: str, section: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a section: heading, its sentence, a row for each key; sections inside it follow."""
    yield from (f"## `{name}`", "", one_line(section["description"]), "", *HEAD)
    inner = {}
    for key, field in section["properties"].items():
        if is_section(field, schema):
            inner[key] = target(field, schema)
        else:
            yield write_row(f"{name}.{key}", field, key in section.get("required", ()), schema)
    yield ""
    for key, part in inner.items():
        yield from write_section(f"{name}.{key}", part, schema)


def write_row(key: str, field: Mapping[str, Any], is_required: bool, schema: Mapping[str, Any]) -> str:
    """Return the row of one key."""
    default = "required" if is_required else f"`{as_yaml(field.get('default'))}`"
    return f"| `{key}` | {default} | {describe(field, schema)} | {one_line(field['description'])} |"


def describe(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return which values a field may have."""
    if "$ref" in field:
        properties = target(field, schema)["properties"]
        return f"`{{{', '.join(f'{name}: ...' for name in properties)}}}`"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(describe(choice, schema) for choice in field["anyOf"]))
    if "const" in field:
        return f"`{as_yaml(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{as_yaml(value)}`" for value in field["enum"])
    kind = field["type"]
    if kind == "array":
        items = field["items"]
        return f"list of {describe(items, schema) if 'enum' in items or 'const' in items else items['type'] + 's'}"
    if kind == "null":
        return "`null`"
    if kind == "boolean":
        return "`true`, `false`"
    if kind == "object":
        return "mapping of names to values"
    return " ".join([kind, *limits(field)])


def limits(field: Mapping[str, Any]) -> Iterator[str]:
    """Yield the bounds of a number."""
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    bounds = [f"{sign} {field[name]:g}" for name, sign in signs.items() if name in field]
    if bounds:
        yield " and ".join(bounds)


def is_section(field: Mapping[str, Any], schema: Mapping[str, Any]) -> bool:
    """Return whether a field is a section of keys."""
    return "$ref" in field and target(field, schema)["type"] == "object"


def target(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition that a field refers to."""
    found: Mapping[str, Any] = schema["$defs"][field["$ref"].rpartition("/")[2]]
    return found


def as_yaml(value: object) -> str:
    """Return a value on one line, as it is written in a configuration."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def one_line(text: str) -> str:
    """Return text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    print(PAGE)
