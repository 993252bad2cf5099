"""Read image files: few decoders, bounded sizes, upright, 8-bit RGB."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.Image
import PIL.ImageOps

from rfdetr_hwd.errors import UserError

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""The decoders that may see a file."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Pillow's own limit on decompression bombs, in force here whatever another library has set."""
_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


class ImageError(UserError):
    """An image file that cannot be decoded; the message says which and why."""


def read_image(path: Path, file: BinaryIO | None = None) -> PIL.Image.Image:
    """Decode an image file as RGB, turned upright as its EXIF orientation says.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.

    Raises:
        ImageError: The file is missing, truncated, no image, of another format or too large to be true.
    """
    with _opened(path, file) as image:
        return to_rgb(image)


def read_size(path: Path, file: BinaryIO | None = None) -> tuple[tuple[int, int], bool]:
    """Return (height, width) of the upright image, and whether its EXIF orientation turns it; nothing is decoded.

    Args:
        path: The file; its name in messages.
        file: Read the image from here instead.

    Raises:
        ImageError: The file is missing, no image, of another format or too large to be true.
    """
    with _opened(path, file) as image:
        orientation = image.getexif().get(_ORIENTATION, 1)
        size = (image.width, image.height) if orientation in _SIDEWAYS else (image.height, image.width)
        return size, orientation not in (0, 1)


def to_rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    """Turn an image upright as its EXIF orientation says, and convert it to 8-bit RGB.

    16-bit grey is scaled, where Pillow alone would clip it; transparency is dropped.
    """
    upright = PIL.ImageOps.exif_transpose(image)
    if upright.mode == "I" or upright.mode.startswith("I;16"):
        pixels = np.asarray(upright).astype(np.int64)
        scale = 257 if pixels.max(initial=0) > 255 else 1
        upright = PIL.Image.fromarray((pixels // scale).clip(0, 255).astype(np.uint8))
    return upright.convert("RGB")


@contextmanager
def _opened(path: Path, file: BinaryIO | None) -> Iterator[PIL.Image.Image]:
    """Open an image; whatever is raised meanwhile is about the file, and says so."""
    try:
        with PIL.Image.open(file or path, formats=IMAGE_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} are more than {MAX_PIXELS} pixels")
            yield image
    except PIL.UnidentifiedImageError:
        raise ImageError(f"cannot decode {path}: it is no image of the formats {', '.join(IMAGE_FORMATS)}") from None
    except OSError as error:
        raise ImageError(f"cannot decode {path}: {error.strerror or error}") from None
    except Exception as error:  # Pillow's decoders raise many kinds
        raise ImageError(f"cannot decode {path}: {error}") from None
