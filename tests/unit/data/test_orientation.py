"""Images are read upright or as stored, and boxes are turned with them, in all eight orientations of EXIF."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.data.images import ReadOptions, read_header, read_image, to_rgb
from rfdetr_hwd.data.orientation import turn_box
from tests.unit.data.test_deep_images import png

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
FORMATS = {
    "PNG": {"format": "PNG"},
    "WEBP": {"format": "WEBP", "lossless": True},
    "TIFF": {"format": "TIFF"},
    "TIFF, packed": {"format": "TIFF", "compression": "tiff_lzw"},
}


def save(image: PIL.Image.Image, orientation: int, **how: object) -> io.BytesIO:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, exif=exif, **how)  # type: ignore[arg-type]
    return buffer


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an array as EXIF defines its orientations, (where row 0 is, where column 0 is)."""
    turned = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
    return turned[::-1] if orientation in (3, 4, 7, 8) else turned


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("how", FORMATS)
def test_an_image_is_read_upright_or_as_stored(how: str, orientation: int) -> None:
    file, path = save(PIL.Image.fromarray(PIXELS), orientation, **FORMATS[how]), Path("x")
    turned = upright(PIXELS, orientation)
    for options, annotated, expected in (
        (ReadOptions(exif="apply"), None, turned),
        (ReadOptions(exif="apply"), (5, 7), turned),
        (ReadOptions(exif="ignore"), None, PIXELS),
        (ReadOptions(exif="ignore"), (7, 5), PIXELS),
        (ReadOptions(), None, turned),
        (ReadOptions(), (7, 5), turned),
        (ReadOptions(), (5, 7), PIXELS if orientation >= 5 else turned),
    ):
        np.testing.assert_array_equal(np.asarray(read_image(path, file, options, annotated)), expected)
    np.testing.assert_array_equal(np.asarray(to_rgb(PIL.Image.open(file), ReadOptions(exif="ignore"))), PIXELS)
    header = read_header(path, file)
    assert (header.stored, header.upright) == ((5, 7), turned.shape[:2])
    assert [header.is_kept(exif, (5, 7)) for exif in ("auto", "apply", "ignore")] == [orientation >= 5, False, True]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", range(9))
def test_so_is_one_with_16_bits(orientation: int, channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (5, 7, channels), dtype=np.uint16)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    name_and_text = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(name_and_text) - 4) + name_and_text + struct.pack(">I", zlib.crc32(name_and_text))
    content = png(values, {1: 0, 3: 2}[channels], chunk if orientation else b"")
    stored = (values.astype(int) * 255 // 4095) * np.ones(3, dtype=int)
    for exif_key, annotated, is_upright in (
        ("ignore", None, False),
        ("auto", (5, 7), orientation < 5),
        ("auto", (7, 5), True),
        ("apply", (5, 7), True),
    ):
        options = ReadOptions(12, exif_key)  # type: ignore[arg-type]
        pixels = np.asarray(read_image(Path("x"), io.BytesIO(content), options, annotated))
        np.testing.assert_array_equal(pixels, upright(stored, orientation) if is_upright else stored)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_turned_with_its_image(orientation: int) -> None:
    x, y, width, height = 1, 2, 4, 1
    pixels = np.zeros((5, 7), dtype=np.uint8)
    pixels[y : y + height, x : x + width] = 1
    rows, columns = np.nonzero(upright(pixels, orientation))
    expected = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert turn_box((x, y, width, height), (5, 7), orientation) == expected
