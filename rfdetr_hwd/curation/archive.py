"""Unpack untrusted zip and tar archives, within limits and atomically."""

import bz2
import gzip
import lzma
import os
import re
import secrets
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.errors import explaining, writing
from rfdetr_hwd.files import removed_afterwards

_CHUNK = 1 << 20
_MAX_DEPTH = 64
_DAMAGE = (
    *(EOFError, ValueError, OverflowError, RuntimeError, OSError),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
)
"""Errors of the standard library about archives that are truncated, corrupt or unsupported."""


@dataclass(frozen=True)
class Limits:
    """Limits of an archive. It is refused if it exceeds one.

    Attributes:
        max_members: Files and directories.
        max_bytes: Bytes of all files together, counted as they are written.
        max_ratio: Unpacked bytes per byte of the archive. Images hardly shrink, annotations to a tenth.
        ratio_from: Unpacked bytes below which the ratio is not checked: a few lines of text may shrink a lot.
    """

    max_members: int = 5_000_000
    max_bytes: int = 1 << 40
    max_ratio: float = 100.0
    ratio_from: int = 64 << 20


class Unpacked(NamedTuple):
    """The number of files of an archive, and their bytes."""

    files: int
    bytes: int


def unpack(archive: Path, target: Path, limits: Limits = Limits()) -> Unpacked:
    """Unpack a zip or tar (plain, gzip, bzip2, xz) into a new directory.

    Only regular files and directories are unpacked, with default permissions instead of the archive's. Sizes in headers
    are not trusted: bytes are counted as they are written.

    Args:
        archive: The file. Its format is recognised by its first bytes, not by its name.
        target: Directory that does not exist yet. It appears when everything is unpacked.
        limits: Limits of the archive.

    Raises:
        DatasetError: The archive is corrupt or unsupported, exceeds a limit, or has a member that is encrypted, a link,
            a device, a duplicate or outside the target. Or the target exists or cannot be written.
    """
    with explaining(OSError, f"cannot read {archive}", DatasetError):
        file = archive.open("rb")
    with file, new_folder(target) as folder:
        meter = _Meter(archive, limits, os.fstat(file.fileno()).st_size)
        # Recognise the format by its first bytes.
        magic = file.read(6)
        file.seek(0)
        # Unpack it. Errors of the disk are not errors of the archive.
        try:
            return (_unpack_zip if magic.startswith(b"PK") else _unpack_tar)(file, magic, folder, meter)
        except _DAMAGE as error:
            if getattr(error, "errno", None) is not None:
                raise  # an error of the disk, not of the archive
            raise DatasetError(
                f"{archive} is corrupt or not a zip or tar archive: {error}. Download it again"
            ) from None


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty directory that is renamed to `target` when the block succeeds, and removed when it raises.

    Raises:
        DatasetError: The target exists, or a file cannot be written.
    """
    if os.path.lexists(target):
        raise DatasetError(f"{target} already exists: choose a new directory")
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    with removed_afterwards(partial), writing("--out", target, DatasetError):
        partial.mkdir(parents=True)
        yield partial
        partial.rename(target)


def refuse_inside(target: Path, source: Path) -> None:
    """Refuse to write a dataset into the one that it is made of, which would then be another one.

    Raises:
        DatasetError: The target lies in the source.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise DatasetError(f"--out {target} lies in the dataset {source}: choose a directory outside of it")


def safe_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a relative path that stays below the directory it is joined to.

    Args:
        name: A path with forward slashes, from an archive, an annotation file or the like.

    Raises:
        DatasetError: It is empty, absolute, has `..`, a backslash, a drive, a control character, or is very deep.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    tricks = {
        "is absolute": name.startswith("/") or re.match(r"[A-Za-z]:", name),
        "contains ..": ".." in parts,
        "contains a backslash": "\\" in name,
        "contains a control character": any(ord(character) < 32 or ord(character) == 127 for character in name),
        f"is deeper than {_MAX_DEPTH} directories": len(parts) > _MAX_DEPTH,
        "is empty": not parts,
    }
    for what, is_so in tricks.items():
        if is_so:
            raise DatasetError(f"the path {name[:200]!r} {what}")
    return parts


class _Meter:
    """Counts members and bytes of one archive, and refuses an archive that exceeds the limits."""

    def __init__(self, archive: Path, limits: Limits, archive_bytes: int) -> None:
        self.archive, self.limits, self.archive_bytes = archive, limits, archive_bytes
        self.members = self.bytes = 0
        self.files: set[tuple[str, ...]] = set()

    def add_bytes(self, count: int) -> None:
        self.bytes += count
        if self.bytes > self.limits.max_bytes:
            raise DatasetError(f"{self.archive} unpacks to more than {self.limits.max_bytes} bytes")
        if self.bytes > max(self.limits.ratio_from, self.limits.max_ratio * self.archive_bytes):
            raise DatasetError(f"{self.archive} unpacks to more than {self.limits.max_ratio:g} times its size")

    def place(self, folder: Path, name: str, is_folder: bool) -> Path:
        """Return the path of a member, after its parent directories are made."""
        self.members += 1
        if self.members > self.limits.max_members:
            raise DatasetError(f"{self.archive} has more than {self.limits.max_members} members")
        if is_folder and name in (".", "./"):  # the first member of many tar files
            return folder
        # Refuse a name that leads elsewhere, or is there already.
        with explaining(DatasetError, self._refused(name), DatasetError):
            parts = safe_parts(name)
        if not is_folder and parts in self.files:
            raise self.refusal(name, "it is in the archive twice")
        # Make its directory.
        path = folder.joinpath(*parts)
        try:
            (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self.refusal(name, "its directory is also a file of the archive") from None
        if not is_folder:
            self.files.add(parts)
        return path

    def refusal(self, name: str, reason: str) -> DatasetError:
        return DatasetError(f"{self._refused(name)}: {reason}")

    def _refused(self, name: str) -> str:
        return f"{self.archive} is refused for its member {name[:200]!r}"


def _unpack_zip(file: IO[bytes], magic: bytes, folder: Path, meter: _Meter) -> Unpacked:
    with zipfile.ZipFile(file) as contents:
        for member in contents.infolist():
            # Refuse what is encrypted, or neither a file nor a directory.
            name = member.orig_filename  # `filename` is cut at a NUL
            if member.flag_bits & 1:
                raise meter.refusal(name, "it is encrypted")
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise meter.refusal(name, "it is neither a file nor a directory")
            path = meter.place(folder, name, member.is_dir())
            if not member.is_dir():
                with contents.open(member) as source:
                    _write(source, path, meter, name)
    return Unpacked(len(meter.files), meter.bytes)


def _unpack_tar(file: IO[bytes], magic: bytes, folder: Path, meter: _Meter) -> Unpacked:
    """Unpack a tar. `tarfile.data_filter` replaces no check: it admits links and makes absolute names relative."""
    # Open the compression, if there is one.
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    opened = next((opener(file) for start, opener in openers.items() if magic.startswith(start)), file)
    with opened as stream:
        # Unpack the members, in the order of the archive.
        pieces: Any = _Pieces(stream)
        with tarfile.open(fileobj=pieces, mode="r:", tarinfo=_StrictHeader) as contents:
            for member in contents:
                if member.issparse() or not (member.isreg() or member.isdir()):
                    raise meter.refusal(member.name, "it is neither a file nor a directory")
                path = meter.place(folder, member.name, member.isdir())
                source = contents.extractfile(member)
                if source is not None:
                    _write(source, path, meter, member.name)
        unpacked = Unpacked(len(meter.files), meter.bytes)
        # Read to the end: a bomb or a wrong checksum may follow the last member.
        while rest := stream.read(_CHUNK):  # the checksum of gzip is at the very end
            meter.add_bytes(len(rest))
        return unpacked


class _Pieces:
    """A stream for `tarfile`, which reads long names and extended attributes at once, whatever their size."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.seek, self.tell = stream, stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > _CHUNK:
            raise tarfile.ReadError(f"it has a header of {size} bytes")
        return self._stream.read(size)


class _StrictHeader(tarfile.TarInfo):
    """A header of a tar file. The library takes a corrupt or missing header for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]  # the mark of the end
                raise
            raise tarfile.ReadError(str(error)) from None


def _write(source: IO[bytes], path: Path, meter: _Meter, name: str) -> None:
    try:
        with path.open("xb") as file:
            while chunk := source.read(_CHUNK):
                meter.add_bytes(len(chunk))
                file.write(chunk)
    except FileExistsError:  # a directory of that name, or the same name on a disk that ignores case
        raise meter.refusal(name, "the archive already has a file of that name") from None
