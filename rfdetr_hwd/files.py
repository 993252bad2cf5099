"""Files of a run and files from anyone: written whole or not at all, read so that nothing in them runs.

Writing never goes through somebody's link. Reading is bounded: JSON, YAML, and tensors without objects.
"""

import json
import math
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from rfdetr_hwd.errors import ConfigError, writing

MAX_JSON_BYTES = 16 << 20
"""Largest JSON file of a checkpoint: class names and metrics, not data."""
MAX_CONFIG_BYTES = 1 << 20


def check_new_directory(option: str, path: Path) -> None:
    """Refuse a directory that holds something or cannot be written, before anything long is done, and leave no trace.

    Args:
        option: What named it: `--out`.
        path: The directory, which need not exist.

    Raises:
        ConfigError: It is refused.
    """
    with writing(option, path):
        if path.is_dir() and any(path.iterdir()):
            raise ConfigError(f"{option}: {path} is not empty; choose a new directory")
        existing = next(above for above in (path, *path.absolute().parents) if os.path.lexists(above))
        if not existing.is_dir():
            raise NotADirectoryError(0, f"{existing} is no directory")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(0, f"no permission to write to {existing}")


def replace_text(path: Path, text: str) -> None:
    """Write a text file beside its place and put it there in one step.

    Raises:
        OSError: It cannot be written; the old file is as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        with open_without_links(partial, "x") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


def open_without_links(path: Path, mode: str) -> IO[str]:
    """Open a text file for writing; where the path is a link, which a hostile run folder may hold, it is an error."""
    return open(path, mode, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o644))


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class UntrustedFileError(ValueError):
    """A file that is not what it should be. The message is the reason alone; the caller knows what the file was for."""


def read_json_object(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file of bounded size; NaN and Infinity, which JSON has not, are refused.

    Raises:
        FileNotFoundError: There is no such file.
        UntrustedFileError: It is too large, cannot be read, or holds something else.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise UntrustedFileError(f"it has {size} bytes, and at most {max_bytes} are read")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
    except (FileNotFoundError, UntrustedFileError):
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UntrustedFileError(f"it is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UntrustedFileError("it holds no JSON object")
    return content


def load_tensors(path: Path, allowed: Sequence[type] = ()) -> Any:
    """Read a file of `torch.save` that holds tensors and plain values; an object of another kind is refused.

    Args:
        path: The file.
        allowed: Further classes, which are rebuilt from plain values without running code of theirs.

    Raises:
        FileNotFoundError: There is no such file.
        UntrustedFileError: It holds anything else, or its archive does not look like one of torch's.
    """
    import torch  # late: configurations are read without it

    try:
        _check_archive(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, UntrustedFileError):
        raise
    except Exception as error:  # the unpickler raises many kinds, all of them about the file
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:  # torch's own message advises how to run it all the same
            raise UntrustedFileError(f"it holds {named[1]}, not tensors and plain values alone") from None
        raise UntrustedFileError(f"it holds something else than tensors and plain values ({_first(error)})") from None


def _check_archive(path: Path) -> None:
    """Refuse members that torch never writes: compressed ones (they could expand without bound) and odd names."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise UntrustedFileError(f"its member {member.filename!r} is compressed, which torch never does")
            if member.filename.startswith("/") or ".." in Path(member.filename).parts:
                raise UntrustedFileError(f"its member {member.filename!r} points elsewhere")


def _refuse_constant(name: str) -> None:
    raise UntrustedFileError(f"it holds {name}, which JSON has not")


def _finite(text: str) -> float:
    """Return a number; one too large to be one would become infinite."""
    value = float(text)
    if not math.isfinite(value):
        _refuse_constant(text)
    return value


def _first(error: Exception) -> str:
    """Return the first sentence of an error."""
    text = str(error).strip().split("\n")[0].split(". ")[0]
    return text or type(error).__name__


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file of bounded size, without aliases and duplicate keys.

    Raises:
        ConfigError: The file is missing, too large, not YAML or not a mapping.
    """
    try:
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} has {size} bytes; it may have at most {MAX_CONFIG_BYTES}")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    try:
        values = load_yaml(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping, of key: value")
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
        seen = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                line = node.start_mark.line + 1
                raise yaml.YAMLError(f"the key {key.value!r} stands twice in one mapping (line {line})")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
