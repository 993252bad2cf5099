"""Every kind of image becomes the right RGB pixels, and what is no image is named."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.data.images import ImageError, read_header, read_image, read_size

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def save(path: Path, image: PIL.Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", PIL.Image.fromarray(RAMP.astype(np.uint16) * 257))
    pixels = np.asarray(read_image(path))
    for channel in range(3):
        np.testing.assert_array_equal(pixels[..., channel], RAMP)


@pytest.mark.parametrize("value", [0, 255, 256, 4095, 65535])
def test_the_brightness_of_16_bit_grey_depends_on_no_other_pixel(tmp_path: Path, value: int) -> None:
    path = save(tmp_path / "a.png", PIL.Image.fromarray(np.full((4, 4), value, dtype=np.uint16)))
    assert (np.asarray(read_image(path)) == value // 257).all()


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", PIL.Image.fromarray(np.ones((4, 4), dtype=np.float32)))
    with pytest.raises(ImageError, match="floating-point pixels"):
        read_image(path)


@pytest.mark.parametrize("read", [read_image, read_size])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="pipe.jpg: it is not a regular file"):
        read(tmp_path / "pipe.jpg")
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="sparse.jpg: it is larger than 512 MiB"):
        read(tmp_path / "sparse.jpg")


def test_grey_palette_and_alpha(tmp_path: Path) -> None:
    grey = PIL.Image.fromarray(RAMP)
    colour = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)
    alpha = np.concatenate([colour, RAMP[..., None]], axis=-1)
    palette = PIL.Image.fromarray(RAMP // 64, mode="P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    expected = {
        "grey": np.repeat(RAMP[..., None], 3, axis=-1),
        "grey_alpha": np.repeat(RAMP[..., None], 3, axis=-1),
        "colour": colour,
        "alpha": colour,
        "palette": np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=np.uint8)[RAMP // 64],
        "palette_transparent": np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)[RAMP // 64],
        "bilevel": np.repeat(np.where(RAMP > 127, 255, 0).astype(np.uint8)[..., None], 3, axis=-1),
    }
    save(tmp_path / "grey.png", grey)
    save(tmp_path / "grey_alpha.png", PIL.Image.merge("LA", [grey, PIL.Image.fromarray(RAMP.T)]))
    save(tmp_path / "colour.png", PIL.Image.fromarray(colour))
    save(tmp_path / "alpha.png", PIL.Image.fromarray(alpha))
    save(tmp_path / "palette.png", palette)
    save(tmp_path / "palette_transparent.png", palette, transparency=1)
    save(tmp_path / "bilevel.png", grey.point(lambda value: 255 if value > 127 else 0).convert("1"))
    for name, pixels in expected.items():
        image = read_image(tmp_path / f"{name}.png")
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pixels, err_msg=name)


def test_cmyk_keeps_its_colours(tmp_path: Path) -> None:
    red = PIL.Image.new("RGB", (16, 16), (255, 0, 0))
    path = save(tmp_path / "a.jpg", red.convert("CMYK"), quality=95)
    np.testing.assert_allclose(np.asarray(read_image(path)).mean(axis=(0, 1)), [255, 0, 0], atol=4)


TURNS = {  # EXIF orientation: from the stored pixels to the upright ones
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    pixels = np.kron(np.array([[20, 90, 160], [230, 125, 55]], dtype=np.uint8), np.ones((16, 16), np.uint8))
    image = PIL.Image.fromarray(pixels).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = orientation
    upright = read_image(save(tmp_path / f"a.{suffix}", image, exif=exif, quality=100))
    expected = TURNS[orientation](pixels)
    assert upright.size == expected.shape[::-1]
    np.testing.assert_allclose(np.asarray(upright)[..., 0].astype(int), expected, atol=12)
    assert read_size(tmp_path / f"a.{suffix}") == (expected.shape, orientation != 1)


@pytest.mark.parametrize("orientation", [0, 9, 255, 65535])
def test_an_orientation_that_exif_does_not_have_turns_nothing(tmp_path: Path, orientation: object) -> None:
    image = PIL.Image.fromarray(RAMP[:8]).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", image, exif=exif)
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(image))
    assert read_size(path) == ((8, 16), False)
    assert read_header(path) == ((8, 16), 1)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_a_header_tells_the_stored_size(tmp_path: Path, orientation: int, suffix: str) -> None:
    image = PIL.Image.new("RGB", (30, 20))
    exif = image.getexif()
    exif[0x0112] = orientation
    header = read_header(save(tmp_path / f"a.{suffix}", image, exif=exif))
    assert header == ((20, 30), orientation)
    assert header.upright == ((30, 20) if orientation in (5, 6, 7, 8) else (20, 30))


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\xff\xd8\xff\xe0 cut", b"GIF89a" + b"\0" * 40, b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    for read in (read_image, read_size):
        with pytest.raises(ImageError, match="broken.jpg"):
            read(path)
        with pytest.raises(ImageError, match="none.jpg"):
            read(tmp_path / "none.jpg")


def test_a_decompression_bomb_is_refused_whatever_others_allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", PIL.Image.new("1", (10_000, 10_000)))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    for read in (read_image, read_size):
        with pytest.raises(ImageError, match="10000x10000 are more than 89478485 pixels"):
            read(path)
