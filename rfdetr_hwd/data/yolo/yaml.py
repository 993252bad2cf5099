"""Read the YAML of a YOLO dataset: bounded, nothing in it is built or run, and every value stays the text it is.

A class that YAML takes for a number, a truth value or a date (`[yes, no]`, `[1.0, 1e3]`, `2024-01-01`) is a name, and
is kept as it is written. Aliases are followed, which costs nothing: no more than lists of texts are ever built.
"""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from rfdetr_hwd.data.findings import DatasetError, shown
from rfdetr_hwd.data.text_file import decode_text, read_bytes

MAX_YAML_BYTES = 1 << 20

Value = str | list[str] | dict[str, str] | None
"""What a key holds: text, a list of texts, texts by text, or nothing."""

_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "value")}
_COLLECTION_TAGS = {"tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}
_NULL = "tag:yaml.org,2002:null"
_UNPRINTABLE = re.compile(r"[^\x09\x0A\x0D\x20-\x7E\x85\xA0-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]+")
_DRIVE_PATH = re.compile(r'"([A-Za-z]:\\[^"\n]*)"')
_QUOTED_PATH = re.compile(r'^([ \t]*(?:train|val|test|path)[a-z]*[ \t]*:[ \t]*)"([^"\n]*)"', re.IGNORECASE | re.M)

# Bytes that are no UTF-8 become private-use characters: harmless in a comment, an error in a value that is read.
_STRAY_BYTES = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
_STRAY_CHARACTER = re.compile("[\uf780-\uf7ff]")


def read_values(path: Path, wanted: Collection[str]) -> dict[str, Value]:
    """Read the wanted keys of a YAML file; keys are found in any case, and others are not looked at.

    Args:
        path: The file, at most `MAX_YAML_BYTES`.
        wanted: Keys in lower case.

    Raises:
        DatasetError: The file cannot be read, is no YAML or no mapping, or a wanted key stands twice or holds what is
            neither text nor a list or mapping of texts.
    """
    text, has_stray_bytes = read_text(path)
    node = _compose(text, path)
    if not isinstance(node, yaml.MappingNode):
        raise DatasetError(f"{path} must be a mapping of key: value pairs")
    values: dict[str, Value] = {}
    for key, value in node.value:
        name = key.value.strip().lower() if isinstance(key, yaml.ScalarNode) else ""
        if name not in wanted:
            continue
        if name in values:
            raise DatasetError(f"{path}: duplicate key {shown(name)} (line {key.start_mark.line + 1})")
        values[name] = _value(value, path, name)
        if has_stray_bytes and any(map(_STRAY_CHARACTER.search, _texts_in(values[name]))):
            raise DatasetError(f"{path}: {name} is not UTF-8 text (line {value.start_mark.line + 1}): save it as UTF-8")
    return values


def read_text(path: Path) -> tuple[str, bool]:
    """Return what a YAML file says, without what YAML cannot hold, and whether private-use characters stand for bytes.

    Raises:
        DatasetError: It is missing, too large or no file.
    """
    try:
        content = read_bytes(path, MAX_YAML_BYTES)
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {error}") from None
    try:
        text, has_stray_bytes = decode_text(content), False
    except ValueError:
        text, has_stray_bytes = decode_text(content, "surrogateescape").translate(_STRAY_BYTES), True
    return _UNPRINTABLE.sub("", text), has_stray_bytes


def _compose(text: str, path: Path) -> yaml.Node | None:
    """Parse a text; where tabs or the backslashes of Windows' paths make it no YAML, they are replaced."""
    text = _DRIVE_PATH.sub(lambda match: match[0].replace("\\", "/"), text)
    text = _QUOTED_PATH.sub(lambda match: match[0].replace("\\", "/"), text)
    try:
        try:
            return yaml.compose(text, yaml.SafeLoader)
        except yaml.YAMLError:
            if "\t" not in text:
                raise
            return yaml.compose(text.replace("\t", "  "), yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DatasetError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None


def _value(node: yaml.Node, path: Path, key: str) -> Value:
    if isinstance(node, yaml.ScalarNode) and node.tag == _NULL:
        return None
    if isinstance(node, yaml.ScalarNode):
        return _text(node, path, key)
    if node.tag not in _COLLECTION_TAGS:
        raise DatasetError(f"{path}: {key} has the tag {shown(node.tag)}, which is not read")
    if isinstance(node, yaml.SequenceNode):
        return [_text(item, path, key) for item in node.value]
    texts: dict[str, str] = {}
    for name, item in node.value:
        text = _text(name, path, key)
        if text in texts:
            raise DatasetError(f"{path}: duplicate key {shown(text)} in {key} (line {name.start_mark.line + 1})")
        texts[text] = _text(item, path, key)
    return texts


def _texts_in(value: Value) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif value is not None:
        yield from [value] if isinstance(value, str) else value


def _text(node: yaml.Node, path: Path, key: str) -> str:
    if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN_TAGS:
        return str(node.value)
    what = f"has the tag {shown(node.tag)}" if isinstance(node, yaml.ScalarNode) else "is a list or a mapping"
    raise DatasetError(f"{path}: {key} holds an entry that {what} (line {node.start_mark.line + 1}), not text")
