"""Read text files that may come from anyone: bounded, UTF-8 with or without its mark, or UTF-16 with it."""

import codecs
from pathlib import Path

from rfdetr_hwd.data.images import check_file

MAX_TEXT_BYTES = 16 << 20
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_bytes(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """Return the bytes of a small file.

    Raises:
        OSError: It is not there, or no regular file.
        ValueError: It is larger than `max_bytes`.
    """
    check_file(path)
    if path.stat().st_size > max_bytes:
        raise ValueError(f"it is larger than {max_bytes >> 20} MiB")
    return path.read_bytes()


def decode_text(content: bytes, errors: str = "strict") -> str:
    """Return the text of a file: UTF-16 where its mark says so (Windows' Notepad and PowerShell), or else UTF-8.

    Args:
        content: The bytes.
        errors: What becomes of bytes that are no text, as in `bytes.decode`.

    Raises:
        ValueError: There are such bytes; the message says where the first is.
    """
    encoding = "utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig"
    try:
        return content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"it is not UTF-8 text: line {line} holds the byte 0x{content[error.start]:02x}"
        advice = "save it as UTF-8, in an editor or as in `iconv -f GBK -t UTF-8 FILE > NEW`"
        raise ValueError(f"{reason}; {advice}") from None


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines that are not blank, each with its number from 1.

    Raises:
        OSError: The file is not there, or no regular file.
        ValueError: It is too large, or no text.
    """
    lines = decode_text(read_bytes(path)).splitlines()
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
