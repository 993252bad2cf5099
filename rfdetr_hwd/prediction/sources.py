"""What the words of the command line stand for: images, videos, directories, globs, URLs, cameras, lists on stdin."""

import glob
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from rfdetr_hwd.curation.fetch import public_part
from rfdetr_hwd.data.images import IMAGE_SUFFIXES
from rfdetr_hwd.errors import ConfigError, explaining

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"),
    *(".ogv", ".3gp", ".mjpg", ".mjpeg", ".m3u8"),
)
"""Suffixes of videos."""
_STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

Kind = Literal["image", "video"]


@dataclass(frozen=True)
class Source:
    """An image or a video.

    Attributes:
        name: Its name in messages and results: the path, or the URL without user, password and query.
        address: The path, the URL, or the index of a camera.
        place: Relative path, unique among the sources. The files about it are named after it.
        kind: What it is, by its name.
    """

    name: str
    address: str
    place: Path
    kind: Kind

    @property
    def is_url(self) -> bool:
        """Whether it is fetched from a server."""
        return _URL.match(self.address) is not None

    @property
    def is_camera(self) -> bool:
        """Whether it is a camera of this machine."""
        return self.kind == "video" and self.address.isdigit()


def find_sources(words: Sequence[str], out: Path, lines: Iterable[str] = ()) -> list[Source]:
    """Return the images and videos that words stand for, each once, in the order of the words.

    Args:
        words: A file; a directory, which is searched recursively; a glob; a URL; the index of a camera; `-` for a list.
        out: Output directory. Its files are no sources of a directory or glob.
        lines: Such words on lines of their own, in place of `-`. A file that is missing there is an unreadable image.

    Raises:
        ConfigError: A word stands for nothing, or the results would overwrite a source.
    """
    found: dict[str, Source] = {}
    taken: dict[str, int] = {}
    with explaining(OSError, "a source cannot be looked up", ConfigError):
        for source in itertools.chain.from_iterable(_expand_all(words, out, lines)):
            if source.address not in found:
                found[source.address] = _with_own_place(source, taken)
    for source in found.values():
        if (
            source.kind == "video"
            and not source.is_url
            and (out / source.place).absolute() == Path(source.name).absolute()
        ):
            raise ConfigError(f"--out {out} contains {source.name}: choose another output directory")
    if not found:
        raise ConfigError("there is no image: give images, videos, directories, globs, URLs, or - for a list on stdin")
    return list(found.values())


def _expand_all(words: Sequence[str], out: Path, lines: Iterable[str]) -> Iterator[Iterable[Source]]:
    for word in words:
        if word == "-":
            yield from (_expand(line, out, True) for text in lines if (line := text.rstrip("\r\n")))
        else:
            yield _expand(word, out, False)


def _expand(word: str, out: Path, is_listed: bool) -> Iterable[Source]:
    """Return what one word stands for."""
    path = Path(word)
    if _URL.match(word):
        return [_at_url(word)]
    if path.is_dir():
        return _in_directory(path, out)
    if word.isdigit() and not path.exists():
        return [Source(f"camera {word}", word, Path(f"camera-{word}.mp4"), "video")]
    if glob.has_magic(word) and not path.exists():
        return _in_glob(word, out)
    if not is_listed and not path.is_file():
        raise ConfigError(f"there is no image or directory {word}")
    return [_at_path(path, Path(path.name))]


def _at_url(url: str) -> Source:
    """Return what lies at a URL. It is not asked.

    Raises:
        ConfigError: Its scheme is not supported.
    """
    name, scheme = public_part(url), urlsplit(url).scheme
    if scheme not in ("http", "https", *_STREAMS):
        raise ConfigError(f"cannot read {name}: a URL must begin with http://, https://, rtsp:// or rtmp://")
    parts = urlsplit(url)
    file = PurePosixPath(parts.path).name or parts.hostname or scheme
    is_video = scheme in _STREAMS or PurePosixPath(file).suffix.lower() in VIDEO_SUFFIXES
    return _named(name, url, Path(file), "video" if is_video else "image")


def _in_directory(directory: Path, out: Path) -> Iterable[Source]:
    """Return the images and videos below a directory, sorted.

    Raises:
        ConfigError: There are none, or `out` holds the directory.
    """
    if directory.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"--out {out} contains {directory}: choose another output directory")
    try:
        files = _usable(directory.rglob("*"), out)
    except OSError as error:
        raise ConfigError(f"cannot read the directory {directory}: {error}") from None
    if not files:
        suffixes = ", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
        raise ConfigError(f"{directory} contains no images and no videos ({suffixes})")
    return [_at_path(path, path.relative_to(directory)) for path in files]


def _in_glob(pattern: str, out: Path) -> Iterable[Source]:
    """Return the images and videos that a pattern matches, sorted, with their place below its fixed part.

    Raises:
        ConfigError: There are none.
    """
    files = _usable(map(Path, glob.iglob(pattern, recursive=True)), out)
    if not files:
        raise ConfigError(f"no image and no video matches {pattern}")
    base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    return [_at_path(path, path.relative_to(base)) for path in files]


def _usable(paths: Iterable[Path], out: Path) -> list[Path]:
    suffixes = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
    files = [path for path in paths if path.suffix.lower() in suffixes and path.is_file()]
    results = out.resolve()
    return sorted(path for path in files if not path.resolve().is_relative_to(results))


def _at_path(path: Path, place: Path) -> Source:
    is_video = path.suffix.lower() in VIDEO_SUFFIXES
    return _named(str(path), str(path), place, "video" if is_video else "image")


def _named(name: str, address: str, place: Path, kind: Kind) -> Source:
    if kind == "video" and place.suffix.lower() != ".mp4":
        place = place.with_name(f"{place.name}.mp4")  # of the video that is written
    return Source(name, address, place, kind)


def _with_own_place(source: Source, taken: dict[str, int]) -> Source:
    """Return a source whose place no other has; `taken` counts the uses of each place."""
    place = source.place
    while (number := taken.get(str(place), 0) + 1) > 1:
        taken[str(place)] = number
        place = place.with_name(f"{source.place.stem}-{number}{source.place.suffix}")
    taken[str(place)] = 1
    return Source(source.name, source.address, place, source.kind)
