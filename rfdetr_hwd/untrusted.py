"""Files that may come from anyone, read so that nothing in them runs: bounded JSON, and tensors without objects.

Every message is the reason alone; the caller knows what the file was for.
"""

import json
import math
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

MAX_JSON_BYTES = 16 << 20
"""Largest JSON file of a checkpoint: class names and figures, not data."""


class UntrustedFileError(ValueError):
    """A file that is not what it should be; the message is the reason."""


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
