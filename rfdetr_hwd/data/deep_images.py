"""Images with more than 8 bits per channel: their value range, bit depth, and conversion to 8 bits.

Cameras and scanners write 10, 12 or 14 bits into files of 16. Read as 16 bits, such an image is almost black. No header
gives the bit depth reliably: PNG's sBIT chunk is about values that were scaled to the full range, and TIFF declares 16
bits for most of these images. So the bit depth is detected from the values.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from rfdetr_hwd.data.orientation import decode_oriented

BIT_DEPTHS = (8, 10, 12, 14, 16)
"""Supported bit depths."""

_BITS_PER_SAMPLE = 258
_LOW_BYTES = {  # of colours with 16 bits a channel, of which Pillow keeps the high bytes
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B",
}
_HIGH_BYTES = {"RGB;16N": "RGB;16L", "RGBA;16N": "RGBA;16L"}
_GREY_ALPHA = "LA;16B"


class DeepValues(NamedTuple):
    """The value range of images with more than 8 bits per channel.

    Attributes:
        num_images: Number of these images.
        largest: Their largest value.
        declared: Largest bit depth between 8 and 16 that one of them declares (TIFF), or 0.
    """

    num_images: int = 0
    largest: int = 0
    declared: int = 0

    @property
    def bit_depth(self) -> int:
        """Smallest of `BIT_DEPTHS` that holds all values, or 16 if no value is known."""
        needed = max(self.largest.bit_length(), self.declared)
        return next((bits for bits in BIT_DEPTHS if bits >= needed), 16) if self.largest else 16


def join_values(found: Iterable[DeepValues]) -> DeepValues:
    """Return the common value range of several results."""
    total = DeepValues()
    for values in found:
        number = total.num_images + values.num_images
        total = DeepValues(number, max(total.largest, values.largest), max(total.declared, values.declared))
    return total


def describe_bit_depth(values: DeepValues, bit_depth: int, is_recognised: bool = False) -> list[tuple[str, str]]:
    """Return findings about images that are read with a bit depth, as kinds and reasons.

    Args:
        values: Value range of the images.
        bit_depth: Bit depth that they are read with.
        is_recognised: Whether the bit depth was detected in these values, and not set by the user.
    """
    top, files = (1 << bit_depth) - 1, f"{values.num_images} images with 16 bits per channel"
    if not values.num_images:
        return []
    if values.largest > top:
        return [
            (
                "clipped_values",
                f"{files} have values up to {values.largest}, above {top}, the maximum of "
                f"{bit_depth} bits (data.bit_depth)",
            )
        ]
    if is_recognised and bit_depth < 16:
        return [
            (
                "low_bit_depth",
                f"{files} have values up to {values.largest}: they use {bit_depth} bits, and are "
                f"read as such (data.bit_depth={bit_depth})",
            )
        ]
    if values.bit_depth < bit_depth and values.largest:
        return [
            (
                "low_bit_depth",
                f"{files} have values up to {values.largest}: they use {values.bit_depth} bits. "
                f"Read as {bit_depth} bits they are dark, at most {values.largest * 255 // top} of 255. Set "
                f"data.bit_depth={values.bit_depth} to use the full range",
            )
        ]
    return []


def is_grey_deep(image: PIL.Image.Image) -> bool:
    """Return whether an image is grey with more than 8 bits, which Pillow decodes in full."""
    return image.mode == "I" or image.mode.startswith("I;16")


def is_deep(image: PIL.Image.Image) -> bool:
    """Return whether an image has more than 8 bits per channel, without decoding it."""
    return is_grey_deep(image) or _raw_mode(image) in {_GREY_ALPHA, *_LOW_BYTES}


def measure_values(image: PIL.Image.Image) -> DeepValues:
    """Return the value range of one image. An image of 8 bits has none, and is not decoded."""
    if not is_deep(image):
        return DeepValues()
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    declared = max(bits if isinstance(bits, tuple) else (bits,))
    largest = int(decode_values(image).max(initial=0))
    return DeepValues(1, max(0, largest), declared if 8 < declared < 16 else 0)


def decode_values(image: PIL.Image.Image, is_upright: bool = True) -> NDArray[Any]:
    """Decode a deep image: shape (H, W), or (H, W, 3) of a colour image.

    Args:
        image: Not decoded yet.
        is_upright: Turn it as its EXIF orientation says.
    """
    raw_mode = _raw_mode(image)
    if is_grey_deep(image) or raw_mode is None:
        return np.asarray(decode_oriented(image, is_upright))
    if raw_mode == _GREY_ALPHA:  # four bytes a pixel: grey, high and low, and alpha
        pixels = np.asarray(_decode_as(image, "RGBA", "RGBA", is_upright))
        return _combine(pixels[..., 0], pixels[..., 1])
    high = np.asarray(_decode_as(image, image.mode, _HIGH_BYTES.get(raw_mode, raw_mode), is_upright))
    low = np.asarray(_decode_as(image, image.mode, _LOW_BYTES[raw_mode], is_upright))
    return _combine(high[..., :3], low[..., :3])


def reopen(image: PIL.Image.Image) -> PIL.Image.Image:
    """Open the file of an undecoded image again."""
    file: Any = image.fp  # type: ignore[attr-defined]
    file.seek(0)
    return PIL.Image.open(file, formats=[str(image.format)])


def to_8_bits(values: NDArray[Any], bit_depth: int) -> NDArray[np.uint8]:
    """Scale values of a bit depth to 0 to 255 by a fixed factor. Larger ones are clipped."""
    top = (1 << bit_depth) - 1
    table = (np.arange(1 << 16, dtype=np.uint32).clip(0, top) * 255 // top).astype(np.uint8)
    if values.itemsize > 2:  # of 32 bits, of which those above 16 are clipped
        values = np.clip(values, 0, (1 << 16) - 1)
    scaled: NDArray[np.uint8] = table[values]  # a look-up takes a byte a value, arithmetic a dozen
    return scaled


def _combine(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    values = high.astype(np.uint16)
    values *= 256
    values += low
    return values


def _raw_mode(image: PIL.Image.Image) -> str | None:
    """Return the pixel layout in the file of an undecoded image, or `None` if it is decoded or has several layouts."""
    tiles = getattr(image, "tile", None) or []
    modes = {tile[3][0] if isinstance(tile[3], tuple) else tile[3] for tile in tiles}
    return str(modes.pop()) if len(modes) == 1 else None


def _decode_as(image: PIL.Image.Image, mode: str, raw_mode: str, is_upright: bool) -> PIL.Image.Image:
    """Decode the file of an image again with another pixel layout."""
    other: Any = reopen(image)
    other._mode = mode
    other.tile = [
        tile._replace(args=(raw_mode, *tile.args[1:]) if isinstance(tile.args, tuple) else raw_mode)
        for tile in other.tile
    ]
    return decode_oriented(other, is_upright)
