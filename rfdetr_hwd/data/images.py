"""Read image files as 8-bit RGB, with few decoders and bounded sizes, upright unless they are annotated as stored."""

import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import PIL.Image

from rfdetr_hwd.data.deep_images import (
    DeepValues,
    decode_values,
    is_deep,
    is_grey_deep,
    join_values,
    measure_values,
    reopen,
    to_8_bits,
)
from rfdetr_hwd.data.formats import Exif
from rfdetr_hwd.data.orientation import SIDEWAYS, decode_oriented, read_orientation, stored_size
from rfdetr_hwd.errors import UserError

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""The decoders that may see a file."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff")
"""Suffixes of files that they decode; a `.mpo` is a JPEG with further pictures behind the first."""
OTHER_IMAGE_SUFFIXES = (
    *(".heic", ".heif", ".avif", ".gif", ".jp2", ".j2k", ".jxl", ".dng", ".nef", ".cr2", ".arw", ".raw"),
    *(".pfm", ".ppm", ".pgm", ".tga", ".dib", ".ico", ".svg", ".psd", ".exr", ".hdr"),
)
"""Suffixes of images that are not read."""
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Pillow's own limit on decompression bombs, in force here whatever another library has set."""
MAX_FILE_BYTES = 1 << 29
_MEASURED = 200
"""Images whose bit depth is looked at."""


class ImageError(UserError):
    """An image file that cannot be decoded; the message says which and why."""


@dataclass(frozen=True)
class ReadOptions:
    """How image files become RGB pixels, where that is open; a model has its images read one way, which it records.

    Attributes:
        bit_depth: Bits that the values of images with more than 8 bits a channel use.
        exif: Whether images are turned upright as their EXIF orientation says.
    """

    bit_depth: int = 16
    exif: Exif = "auto"


USUAL = ReadOptions()
"""Values of 16-bit files use 16 bits; an image is turned upright unless it is annotated as stored."""


def read_image(
    path: Path,
    file: BinaryIO | None = None,
    options: ReadOptions = USUAL,
    annotated: tuple[int, int] | None = None,
) -> PIL.Image.Image:
    """Decode an image file as RGB, upright or as it is stored.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.
        options: How it is read.
        annotated: (height, width) that its annotations refer to, if it has any.

    Raises:
        ImageError: The file is missing, truncated, no image, of another format or too large to be true.
    """
    with _opened(path, file) as image:
        return to_rgb(image, options, annotated)


def measure_depth(path: Path, file: BinaryIO | None = None) -> DeepValues:
    """Return what an image file with more than 8 bits a channel holds; of any other nothing is decoded.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.

    Raises:
        ImageError: The file is missing, truncated, no image, of another format or too large to be true.
    """
    with _opened(path, file) as image:
        return measure_values(image)


def measure_depths(paths: Sequence[Path]) -> DeepValues:
    """Return what the first images with more than 8 bits a channel hold; images that cannot be read are ignored."""
    found = []
    for path in paths[:_MEASURED]:
        with suppress(ImageError):
            found.append(measure_depth(path))
    return join_values(found)


class Header(NamedTuple):
    """What an image file says of itself before its pixels.

    Attributes:
        stored: (height, width) of the pixels as they are stored.
        orientation: EXIF's, from 2 to 8; 1 where nothing is to be turned, or the file holds no such number.
    """

    stored: tuple[int, int]
    orientation: int

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) once the orientation is applied."""
        return self.stored[::-1] if self.orientation in SIDEWAYS else self.stored

    def frame(self, exif: Exif) -> tuple[int, int]:
        """Return the (height, width) that the image has for what `data.exif` says, unless it is annotated otherwise."""
        return self.stored if exif == "ignore" else self.upright

    def is_kept(self, exif: Exif, annotated: tuple[int, int] | None) -> bool:
        """Return whether the image is read as it is stored, given the (height, width) that its annotations refer to."""
        return exif == "ignore" or (exif == "auto" and annotated == self.stored != self.upright)


def read_header(path: Path, file: BinaryIO | None = None) -> Header:
    """Read the size and the EXIF orientation of an image; nothing is decoded.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.

    Raises:
        ImageError: The file is missing, no image, of another format or too large to be true.
    """
    with _opened(path, file) as image:
        return _header(image)


def read_size(path: Path, file: BinaryIO | None = None) -> tuple[tuple[int, int], bool]:
    """Return (height, width) of the upright image, and whether its EXIF orientation turns it; nothing is decoded.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.

    Raises:
        ImageError: The file is missing, no image, of another format or too large to be true.
    """
    header = read_header(path, file)
    return header.upright, header.orientation != 1


def read_format(path: Path, file: BinaryIO | None = None) -> str:
    """Return the format of an image file, one of `IMAGE_FORMATS` or `MPO`, whatever its name says.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.

    Raises:
        ImageError: The file is missing, no image, of another format or too large to be true.
    """
    with _opened(path, file) as image:
        return str(image.format)


def _header(image: PIL.Image.Image) -> Header:
    orientation = read_orientation(image)
    return Header(stored_size(image, orientation), orientation)


def to_rgb(
    image: PIL.Image.Image, options: ReadOptions = USUAL, annotated: tuple[int, int] | None = None
) -> PIL.Image.Image:
    """Turn an image upright as its EXIF orientation says, or leave it as it is stored, and convert it to 8-bit RGB.

    More than 8 bits a channel are scaled by a fixed factor, where Pillow alone would clip grey ones; transparency is
    dropped. Of colours with 16 bits a channel Pillow keeps the high bytes, which is that factor if all 16 are used.

    Args:
        image: Of any size and mode. Colours that use fewer than 16 bits of 16 must not have been decoded yet.
        options: How it is read.
        annotated: (height, width) that its annotations refer to, if it has any.

    Raises:
        ImageError: The pixels are floating-point numbers, which have no fixed range.
    """
    if image.mode == "F":
        raise ImageError("floating-point pixels have no fixed range: store them with 8 or 16 bits")
    is_by_value = is_grey_deep(image) or options.bit_depth < 16 and is_deep(image)
    is_upright = options.exif != "ignore"
    if options.exif == "auto" and annotated is not None and image.width != image.height:
        probe = reopen(image) if is_by_value and not is_grey_deep(image) else image  # looking for EXIF decodes a PNG
        is_upright = not _header(probe).is_kept("auto", annotated)
    if is_by_value:
        return PIL.Image.fromarray(to_8_bits(decode_values(image, is_upright), options.bit_depth)).convert("RGB")
    decoded = decode_oriented(image, is_upright)
    return decoded if decoded.mode == "RGB" else decoded.convert("RGB")


def check_file(path: Path) -> None:
    """Raise an error for what is no file of an image's size: reading a pipe would wait for ever.

    Raises:
        OSError: It is not there, no regular file, or too large.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise OSError(f"it is larger than {MAX_FILE_BYTES >> 20} MiB")


@contextmanager
def _opened(path: Path, file: BinaryIO | None) -> Iterator[PIL.Image.Image]:
    """Open an image; whatever is raised meanwhile is about the file, and says so."""
    try:
        if file is None:
            check_file(path)
        with PIL.Image.open(file or path, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} are more than {MAX_PIXELS} pixels")
            yield image
    except PIL.UnidentifiedImageError:
        raise ImageError(
            f"cannot decode {path}: it is not an image in one of the formats {', '.join(IMAGE_FORMATS)}"
        ) from None
    except OSError as error:
        raise ImageError(f"cannot decode {path}: {error.strerror or error}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise ImageError(f"cannot decode {path}: {error}") from None
