"""Unpack archives that nobody vouches for: zip and tar, within limits, whole or absent."""

import bz2
import gzip
import lzma
import os
import re
import secrets
import shutil
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
from rfdetr_hwd.errors import writing

_CHUNK = 1 << 20
_MAX_DEPTH = 64
_DAMAGE = (
    *(EOFError, ValueError, OverflowError, RuntimeError, OSError),
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
)
"""What the standard library raises about archives that are cut short, corrupt or of a kind it cannot read."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold; beyond it, it is refused.

    Attributes:
        max_members: Files and folders.
        max_bytes: Bytes of all files together, counted as they are written.
        max_ratio: Unpacked bytes for each byte of the archive. Images hardly shrink, annotations to a tenth.
        ratio_from: Unpacked bytes below which the ratio is not looked at: a few lines of text may shrink a lot.
    """

    max_members: int = 5_000_000
    max_bytes: int = 1 << 40
    max_ratio: float = 100.0
    ratio_from: int = 64 << 20


class Unpacked(NamedTuple):
    """What an archive held."""

    files: int
    bytes: int


def unpack(archive: Path, target: Path, limits: Limits = Limits()) -> Unpacked:
    """Unpack a zip or tar (plain, gzip, bzip2, xz) into a new folder.

    Only plain files and folders come out, with ordinary permissions; the archive's own are not taken over. Headers are
    not believed: bytes are counted as they are written.

    Args:
        archive: The file; its kind is found in its first bytes, not in its name.
        target: Folder that does not exist yet. It appears when everything is unpacked.
        limits: What the archive may hold.

    Raises:
        DatasetError: The archive is corrupt or of another kind; or a member is encrypted, a link, a device, stands
            twice or would land outside; or a limit is passed; or the target exists or cannot be written.
    """
    try:
        file = archive.open("rb")
    except OSError as error:
        raise DatasetError(f"cannot read {archive}: {error.strerror}") from None
    with file, new_folder(target) as folder:
        meter = _Meter(archive, limits, os.fstat(file.fileno()).st_size)
        magic = file.read(6)
        file.seek(0)
        try:
            return (_unpack_zip if magic.startswith(b"PK") else _unpack_tar)(file, magic, folder, meter)
        except _DAMAGE as error:
            if getattr(error, "errno", None) is not None:
                raise  # the disk's, not the archive's
            raise DatasetError(f"{archive} is corrupt or not a zip or tar archive: {error}. Fetch it again") from None


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that becomes `target` when the block ends well, and is removed when not.

    Raises:
        DatasetError: The target exists, or a file cannot be written.
    """
    if os.path.lexists(target):
        raise DatasetError(f"{target} exists already: choose a new folder")
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with writing("--out", target, DatasetError):
            partial.mkdir(parents=True)
            yield partial
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_inside(target: Path, source: Path) -> None:
    """Refuse to write a dataset into the one that it is made of, which would then be another one.

    Raises:
        DatasetError: The target lies in the source.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise DatasetError(f"--out {target} lies in the dataset {source}: choose a directory outside of it")


def safe_parts(name: str) -> tuple[str, ...]:
    """Return the parts of a relative path that stays below the folder it is joined to.

    Args:
        name: A path with forward slashes, from an archive, an annotation file or the like.

    Raises:
        DatasetError: It is empty, absolute, has `..`, a backslash, a drive, a control character, or is very deep.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    tricks = {
        "is absolute": name.startswith("/") or re.match(r"[A-Za-z]:", name),
        "leads upwards": ".." in parts,
        "holds a backslash": "\\" in name,
        "holds a control character": any(ord(character) < 32 or ord(character) == 127 for character in name),
        f"is deeper than {_MAX_DEPTH} folders": len(parts) > _MAX_DEPTH,
        "names nothing": not parts,
    }
    for what, is_so in tricks.items():
        if is_so:
            raise DatasetError(f"the path {name[:200]!r} {what}")
    return parts


class _Meter:
    """Counts members and bytes of one archive, and refuses what goes past the limits."""

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
        """Return where a member goes, with the folders above it made."""
        self.members += 1
        if self.members > self.limits.max_members:
            raise DatasetError(f"{self.archive} has more than {self.limits.max_members} members")
        if is_folder and name in (".", "./"):  # with which many tars begin
            return folder
        try:
            parts = safe_parts(name)
        except DatasetError as error:
            raise self.refusal(name, str(error)) from None
        if not is_folder and parts in self.files:
            raise self.refusal(name, "it stands twice in the archive")
        path = folder.joinpath(*parts)
        try:
            (path if is_folder else path.parent).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise self.refusal(name, "its folder is also a file of the archive") from None
        if not is_folder:
            self.files.add(parts)
        return path

    def refusal(self, name: str, reason: str) -> DatasetError:
        return DatasetError(f"{self.archive} is refused for its member {name[:200]!r}: {reason}")


def _unpack_zip(file: IO[bytes], magic: bytes, folder: Path, meter: _Meter) -> Unpacked:
    with zipfile.ZipFile(file) as contents:
        for member in contents.infolist():
            name = member.orig_filename  # `filename` is cut at a NUL
            if member.flag_bits & 1:
                raise meter.refusal(name, "it is encrypted")
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise meter.refusal(name, "it is neither a file nor a folder")
            path = meter.place(folder, name, member.is_dir())
            if not member.is_dir():
                with contents.open(member) as source:
                    _write(source, path, meter, name)
    return Unpacked(len(meter.files), meter.bytes)


def _unpack_tar(file: IO[bytes], magic: bytes, folder: Path, meter: _Meter) -> Unpacked:
    openers: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
    opened = next((opener(file) for start, opener in openers.items() if magic.startswith(start)), file)
    with opened as stream:
        pieces: Any = _Pieces(stream)
        with tarfile.open(fileobj=pieces, mode="r:", tarinfo=_StrictHeader) as contents:
            for member in contents:
                if member.issparse() or not (member.isreg() or member.isdir()):
                    raise meter.refusal(member.name, "it is neither a file nor a folder")
                path = meter.place(folder, member.name, member.isdir())
                source = contents.extractfile(member)
                if source is not None:
                    _write(source, path, meter, member.name)
        unpacked = Unpacked(len(meter.files), meter.bytes)
        while rest := stream.read(_CHUNK):  # gzip's checksum stands at the very end
            meter.add_bytes(len(rest))
        return unpacked


class _Pieces:
    """What `tarfile` reads from. It reads a long name or extended attributes in one piece, whatever their size."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.seek, self.tell = stream, stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        if size > _CHUNK:
            raise tarfile.ReadError(f"it has a header of {size} bytes")
        return self._stream.read(size)


class _StrictHeader(tarfile.TarInfo):
    """A header of a tar. The library takes a corrupt header, or none at all, for the end of the archive."""

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
    except FileExistsError:  # a folder of that name, or the same name on a disk that ignores case
        raise meter.refusal(name, "the archive has it already under that name") from None
