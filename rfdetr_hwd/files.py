"""Write files atomically, and read untrusted files without running code from them.

Writing does not follow symbolic links. Reading is bounded, for JSON, YAML and files of tensors.
"""

import gc
import json
import math
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from rfdetr_hwd.errors import ConfigError, explaining, writing

MAX_JSON_BYTES = 16 << 20
"""Largest JSON file of a checkpoint: class names and metrics, not data."""
MAX_CONFIG_BYTES = 1 << 20


def check_new_directory(option: str, path: Path) -> None:
    """Refuse a directory that is not empty or cannot be written, before anything long is done, without creating it.

    Args:
        option: The option that gives it: `--out`.
        path: The directory, which need not exist.

    Raises:
        ConfigError: It is refused.
    """
    with writing(option, path):
        if path.is_dir() and any(path.iterdir()):
            raise ConfigError(f"{option}: {path} is not empty: choose a new directory")
    check_directory(option, path)


def check_directory(option: str, path: Path) -> None:
    """Refuse a directory that cannot be written, before anything long is done, without creating it.

    Args:
        option: The option that gives it: `--out`.
        path: The directory, which need not exist.

    Raises:
        ConfigError: It is refused.
    """
    with writing(option, path):
        # Look at the nearest directory above it that exists.
        existing = next(above for above in (path, *path.absolute().parents) if os.path.lexists(above))
        if not existing.is_dir():
            raise NotADirectoryError(0, f"{existing} is not a directory")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(0, f"no permission to write to {existing}")


def replace_text(path: Path, text: str) -> None:
    """Replace a text file atomically.

    Raises:
        OSError: It cannot be written. The old file is unchanged.
    """
    replace_parts(path, (text,))


def replace_parts(path: Path, parts: Iterable[str]) -> None:
    """Replace a text file atomically with parts that need not fit into memory together.

    Raises:
        OSError: It cannot be written. The old file is unchanged.
    """
    partial = path.with_name(f".{path.name}.partial")
    # A file of a killed process may lie there, or a link of an enemy.
    partial.unlink(missing_ok=True)
    with removed_afterwards(partial):
        with open_without_links(partial, "x") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    flush(path.parent)


@contextmanager
def removed_afterwards(*paths: Path) -> Iterator[None]:
    """Remove files and directories after the block, however it ends. It is no error if they are gone or stay."""
    try:
        yield
    finally:
        for path in paths:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def open_without_links(path: Path, mode: str) -> IO[str]:
    """Open a text file for writing. A symbolic link, which a hostile run directory may hold, is an error."""
    return open(path, mode, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o644))


def flush(path: Path) -> None:
    """Flush a file, or the entries of a directory, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class UntrustedFileError(ValueError):
    """An invalid file. The message is the reason alone, because the caller knows what the file is for."""


def read_json_object(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file of bounded size. NaN and Infinity, which are not JSON, are refused.

    Raises:
        FileNotFoundError: There is no such file.
        UntrustedFileError: It is too large, cannot be read, or is not a JSON object.
    """
    content = _read_json(path, max_bytes, parse_float=_finite)
    if not isinstance(content, dict):
        raise UntrustedFileError("it is not a JSON object")
    return content


def read_json_list(path: Path, max_bytes: int) -> list[Any]:
    """Read a long JSON list from a file of bounded size. NaN and Infinity, which are not JSON, are refused.

    A number that overflows is infinite: checking each as `read_json_object` does takes longer than reading it.

    Raises:
        FileNotFoundError: There is no such file.
        UntrustedFileError: It is too large, cannot be read, or is not a JSON list.
    """
    was_enabled = gc.isenabled()
    gc.disable()  # its passes over the growing list take as long as the reading
    try:
        content = _read_json(path, max_bytes)
    finally:
        if was_enabled:
            gc.enable()
    if not isinstance(content, list):
        raise UntrustedFileError("it is not a JSON list")
    return content


def _read_json(path: Path, max_bytes: int, parse_float: Callable[[str], float] | None = None) -> Any:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise UntrustedFileError(f"it has {size} bytes, more than the limit of {max_bytes}")
        if path.is_dir():
            raise UntrustedFileError("it is a directory")
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            raise UntrustedFileError("it is empty")
        return json.loads(text, parse_constant=_refuse_constant, parse_float=parse_float)
    except (FileNotFoundError, UntrustedFileError):
        raise
    except UnicodeDecodeError:
        raise UntrustedFileError("it is not UTF-8 text") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UntrustedFileError(f"it is not valid JSON: {error}") from None


def load_tensors(path: Path, allowed: Sequence[type] = ()) -> Any:
    """Read a file of `torch.save` with tensors and plain values. Other objects are refused.

    Args:
        path: The file.
        allowed: Further classes, which are rebuilt from plain values without running their code.

    Raises:
        FileNotFoundError: There is no such file.
        UntrustedFileError: It contains other objects, or its archive does not look like one of torch's.
    """
    import torch  # late: configurations are read without it

    try:
        _check_archive(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, UntrustedFileError):
        raise
    except Exception as error:  # the unpickler raises many kinds, all of them about the file
        # Name the class alone: torch's own message explains how to run it anyway.
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:  # torch's own message explains how to run it anyway
            raise UntrustedFileError(f"it contains {named[1]}, but only tensors and plain values are read") from None
        raise UntrustedFileError(f"it contains other objects than tensors and plain values ({_first(error)})") from None


def _check_archive(path: Path) -> None:
    """Refuse members that torch never writes: compressed ones (they could expand without bound) and odd names."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise UntrustedFileError(
                    f"its member {member.filename!r} is compressed, but torch writes uncompressed members"
                )
            if member.filename.startswith("/") or ".." in Path(member.filename).parts:
                raise UntrustedFileError(f"its member {member.filename!r} points outside the archive")


def _refuse_constant(name: str) -> None:
    raise UntrustedFileError(f"it contains {name}, which is not JSON")


def _finite(text: str) -> float:
    """Return a number, and refuse one that overflows to infinity."""
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
    with explaining(OSError, f"cannot read {path}", ConfigError):
        size = path.stat().st_size
        if size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} has {size} bytes, more than the limit of {MAX_CONFIG_BYTES}")
        content = path.read_bytes()
    with explaining(UnicodeDecodeError, f"{path} is not UTF-8 text", ConfigError):
        text = content.decode()
    with explaining((yaml.YAMLError, RecursionError, ValueError), f"{path} is not valid YAML", ConfigError):
        values = load_yaml(text)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must be a mapping of key: value pairs")
    return values


def load_yaml(text: str) -> Any:
    """Return the value of a YAML text. Raises `yaml.YAMLError`, `ValueError` or `RecursionError` for invalid text."""
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
                raise yaml.YAMLError(f"duplicate key {key.value!r} in the mapping at line {line}")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
