"""Read image files: few decoders, bounded sizes, upright, 8-bit RGB."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import PIL.Image
import PIL.ImageOps

from rfdetr_hwd.data.deep_images import DeepValues, is_deep, is_grey_deep, measure, to_8_bits, upright_values
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
Exif = Literal["auto", "apply", "ignore"]
"""Whether images are turned upright as their EXIF orientation says; `auto`: unless they are annotated as stored."""
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


class ImageError(UserError):
    """An image file that cannot be decoded; the message says which and why."""


@dataclass(frozen=True)
class ReadOptions:
    """How image files become RGB pixels, where that is open; a model has its images read one way, which it records.

    Attributes:
        bit_depth: Bits that the values of images with more than 8 bits a channel use.
    """

    bit_depth: int = 16


AS_STORED = ReadOptions()
"""Values of 16-bit files use 16 bits."""


def read_image(path: Path, file: BinaryIO | None = None, options: ReadOptions = AS_STORED) -> PIL.Image.Image:
    """Decode an image file as RGB, turned upright as its EXIF orientation says.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.
        options: How its values are understood.

    Raises:
        ImageError: The file is missing, truncated, no image, of another format or too large to be true.
    """
    with _opened(path, file) as image:
        return to_rgb(image, options)


def measure_depth(path: Path, file: BinaryIO | None = None) -> DeepValues:
    """Return what an image file with more than 8 bits a channel holds; of any other nothing is decoded.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.

    Raises:
        ImageError: The file is missing, truncated, no image, of another format or too large to be true.
    """
    with _opened(path, file) as image:
        return measure(image)


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
        return self.stored[::-1] if self.orientation in _SIDEWAYS else self.stored

    def frame(self, exif: Exif) -> tuple[int, int]:
        """Return the (height, width) that the image has for what `data.exif` says, unless it is annotated otherwise."""
        return self.stored if exif == "ignore" else self.upright


def read_header(path: Path, file: BinaryIO | None = None) -> Header:
    """Read the size and the EXIF orientation of an image; nothing is decoded.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.

    Raises:
        ImageError: The file is missing, no image, of another format or too large to be true.
    """
    with _opened(path, file) as image:
        orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation not in range(2, 9):
            orientation = 1
        is_turned = image.format == "TIFF" and orientation in _SIDEWAYS  # whose size Pillow turns itself
        return Header((image.width, image.height) if is_turned else (image.height, image.width), int(orientation))


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


def to_rgb(image: PIL.Image.Image, options: ReadOptions = AS_STORED) -> PIL.Image.Image:
    """Turn an image upright as its EXIF orientation says, and convert it to 8-bit RGB.

    More than 8 bits a channel are scaled by a fixed factor, where Pillow alone would clip grey ones; transparency is
    dropped. Of colours with 16 bits a channel Pillow keeps the high bytes, which is that factor if all 16 are used.

    Args:
        image: Of any size and mode. Colours that use fewer than 16 bits of 16 must not have been decoded yet.
        options: How its values are understood.

    Raises:
        ImageError: The pixels are floating-point numbers, which have no fixed range.
    """
    if image.mode == "F":
        raise ImageError("floating-point pixels have no fixed range: store them with 8 or 16 bits")
    if is_grey_deep(image) or options.bit_depth < 16 and is_deep(image):
        return PIL.Image.fromarray(to_8_bits(upright_values(image), options.bit_depth)).convert("RGB")
    upright = PIL.ImageOps.exif_transpose(image)  # a copy
    return upright if upright.mode == "RGB" else upright.convert("RGB")


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
        raise ImageError(f"cannot decode {path}: it is no image of the formats {', '.join(IMAGE_FORMATS)}") from None
    except OSError as error:
        raise ImageError(f"cannot decode {path}: {error.strerror or error}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        raise ImageError(f"cannot decode {path}: {error}") from None
