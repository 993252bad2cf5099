"""Download a file from a URL, with a size limit, atomically, and checked against its sha256."""

import hashlib
import os
import re
import secrets
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any

from rfdetr_hwd.curation.archive import Limits, Unpacked, unpack
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.errors import writing

_CHUNK = 1 << 20
_TIMEOUT = 60.0
_LIMITS = Limits()


def fetch(url: str, target: Path, sha256: str | None = None, max_bytes: int = 1 << 40) -> str:
    """Download a file.

    Messages show host and path of the URL only, because its query may contain a key.

    Args:
        url: An https, http or file URL. Redirects from https to other schemes are refused.
        target: File that does not exist yet. It appears when it is complete and its checksum matches.
        sha256: The expected sha256, 64 hexadecimal digits. `None` accepts any.
        max_bytes: Largest file that is accepted.

    Returns:
        The sha256 of the file.

    Raises:
        DatasetError: The URL is invalid or the server does not answer. The file is too large, incomplete or has another
            checksum. The target exists or cannot be written.
    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise DatasetError(f"{sha256!r} is not a sha256: it must have 64 hexadecimal digits")
    where = _shown(url)
    if os.path.lexists(target):
        raise DatasetError(f"{target} already exists: choose a new file")
    # Download beside the target, and compare the checksum before it appears.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with (
            urllib.request.build_opener(_KeepScheme).open(url, timeout=_TIMEOUT) as response,
            partial.open("xb") as file,
        ):
            found = _receive(response, file, where, max_bytes)
        if sha256 is not None and found != sha256.lower():
            raise DatasetError(f"checksum mismatch of {where}: its sha256 is {found}, not {sha256.lower()}")
        partial.rename(target)
    except (OSError, HTTPException, ValueError) as error:
        # The text of HTTP errors may repeat a URL with its query.
        is_plain = isinstance(error, OSError) and not isinstance(error, urllib.error.HTTPError)
        reason = f"the server answers {error.code}" if hasattr(error, "code") else type(error).__name__
        if isinstance(error, urllib.error.URLError) and is_plain:
            reason = getattr(error.reason, "strerror", None) or str(error.reason)
        elif is_plain:
            reason = str(error)
        raise DatasetError(f"cannot download {where}: {reason}") from None
    finally:
        partial.unlink(missing_ok=True)
    return found


def fetch_and_unpack(url: str, target: Path, sha256: str | None = None, limits: Limits = _LIMITS) -> Unpacked:
    """Download an archive and unpack it into a new directory; see `fetch` and `unpack`. The archive is not kept."""
    if os.path.lexists(target):
        raise DatasetError(f"{target} already exists: choose a new directory")
    with writing("--out", target, DatasetError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as scratch:
            fetch(url, Path(scratch) / "archive", sha256, limits.max_bytes)
            return unpack(Path(scratch) / "archive", target, limits)


class _KeepScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, but not from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise DatasetError(f"cannot download {_shown(req.full_url)}: it redirects from {req.type} to {scheme}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _receive(response: Any, file: IO[bytes], where: str, max_bytes: int) -> str:
    """Copy a response to a file and return its sha256."""
    announced = response.headers.get("Content-Length")
    expected = int(announced) if announced and announced.isascii() and announced.isdigit() else None
    digest, count = hashlib.sha256(), 0
    while chunk := response.read(_CHUNK):
        count += len(chunk)
        if max(count, expected or 0) > max_bytes:
            raise DatasetError(f"{where} has more than {max_bytes} bytes")
        digest.update(chunk)
        file.write(chunk)
    if expected is not None and count != expected:
        raise DatasetError(f"cannot download {where}: it ended after {count} of {expected} bytes. Try again")
    return digest.hexdigest()


def public_part(url: str) -> str:
    """Return a URL without user, password and query, which may be secret.

    Raises:
        DatasetError: It is not valid.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        raise DatasetError("the URL is not valid") from None


def _shown(url: str) -> str:
    """Return the public part of a URL.

    Raises:
        DatasetError: It is not a URL that can be downloaded.
    """
    place = public_part(url)
    if urllib.parse.urlsplit(url).scheme not in ("https", "http", "file"):
        raise DatasetError(f"cannot download {place!r}: the URL must begin with https://, http:// or file://")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise DatasetError(f"cannot download {place!r}: the URL contains a space or a control character")
    return place
