"""Images with 16 bits a channel are read with the bits that their values use: exactly, and the same everywhere."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from rfdetr_hwd.data.deep_images import BIT_DEPTHS, DeepValues, describe_bit_depth, is_deep, join_values
from rfdetr_hwd.data.images import ReadOptions, measure_depth, measure_depths, read_image, to_rgb

RNG = np.random.default_rng(0)
Values = NDArray[np.uint16]


def png(values: Values, colour_type: int, chunks: bytes = b"") -> bytes:
    """Write (H, W, C) as a PNG with 16 bits a channel, which Pillow does for grey alone."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = values.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values: Values, order: str, is_compressed: bool, bits: int = 16) -> bytes:
    """Write (H, W, C) as a TIFF of one strip, in either byte order."""
    height, width, channels = values.shape
    if bits == 12:
        assert width * channels % 2 == 0
        pairs = values.reshape(-1, 2).astype(np.uint32)
        packed = pairs[:, 0] << 12 | pairs[:, 1]
        content = b"".join(int(three).to_bytes(3, "big") for three in packed)
    else:
        content = values.astype({"<": "<u2", ">": ">u2"}[order]).tobytes()
    content = zlib.compress(content) if is_compressed else content
    start = 8 + len(content) + len(content) % 2
    entries = [
        *((256, width), (257, height), (258, bits), (259, 8 if is_compressed else 1), (262, 2 if channels > 1 else 1)),
        *((273, 8), (277, channels), (278, height), (279, len(content))),
    ]
    end = start + 2 + 12 * len(entries) + 4
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, start)
    table = struct.pack(order + "H", len(entries))
    for tag, value in entries:
        if tag == 258 and channels > 1:
            table += struct.pack(order + "HHII", tag, 3, channels, end)
        else:
            table += struct.pack(order + "HHII", tag, 4, 1, value)
    return head + content.ljust(start - 8, b"\0") + table + bytes(4) + struct.pack(order + "H", bits) * channels


def grey(values: Values) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(values[..., 0]).save(file, "PNG")
    return file.getvalue()


FILES: dict[str, tuple[int, Callable[[Values], bytes]]] = {
    "grey PNG": (1, grey),
    "grey and alpha PNG": (2, lambda values: png(values, 4)),
    "RGB PNG": (3, lambda values: png(values, 2)),
    "RGBA PNG": (4, lambda values: png(values, 6)),
    "grey TIFF, little endian": (1, lambda values: tiff(values, "<", False)),
    "grey TIFF, big endian": (1, lambda values: tiff(values, ">", False)),
    "RGB TIFF, little endian": (3, lambda values: tiff(values, "<", False)),
    "RGB TIFF, big endian": (3, lambda values: tiff(values, ">", False)),
    "RGB TIFF, compressed": (3, lambda values: tiff(values, "<", True)),
    "RGB TIFF, compressed, big endian": (3, lambda values: tiff(values, ">", True)),
}


def colours(values: Values) -> NDArray[np.int64]:
    """Return the channels that become red, green and blue."""
    channels = values[..., :3] if values.shape[2] > 2 else np.repeat(values[..., :1], 3, axis=2)
    return channels.astype(np.int64)


@pytest.mark.parametrize("bit_depth", BIT_DEPTHS)
@pytest.mark.parametrize("kind", FILES)
def test_values_of_so_many_bits_fill_the_range(kind: str, bit_depth: int) -> None:
    channels, write = FILES[kind]
    top = (1 << bit_depth) - 1
    values = RNG.integers(0, top + 1, (6, 8, channels)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, top
    file = io.BytesIO(write(values))
    assert measure_depth(Path("x"), file) == DeepValues(1, top, 0)
    assert measure_depth(Path("x"), file).bit_depth == bit_depth
    pixels = np.asarray(read_image(Path("x"), file, ReadOptions(bit_depth)))
    exact = colours(values) * 255 / top
    assert pixels.shape == (6, 8, 3)
    assert (pixels[0, :2].min(), pixels[0, :2].max()) == (0, 255)
    if bit_depth == 16 and channels > 1:  # Pillow's high bytes
        np.testing.assert_array_equal(pixels, colours(values) >> 8)
    else:
        np.testing.assert_array_equal(pixels, np.floor(exact))


@pytest.mark.parametrize("kind", FILES)
def test_larger_values_are_clipped(kind: str) -> None:
    channels, write = FILES[kind]
    values = RNG.integers(0, 1 << 12, (6, 8, channels)).astype(np.uint16)
    pixels = np.asarray(read_image(Path("x"), io.BytesIO(write(values)), ReadOptions(10)))
    np.testing.assert_array_equal(pixels, colours(values).clip(0, 1023) * 255 // 1023)


@pytest.mark.parametrize("value", [0, 255, 256, 4095, 65535])
def test_sixteen_bits_are_read_as_ever(value: int) -> None:
    file = io.BytesIO(grey(np.full((4, 4, 1), value, dtype=np.uint16)))
    assert (np.asarray(read_image(Path("x"), file)) == value // 257).all()


@pytest.mark.parametrize(("value", "expected"), [(-5, 0), (4095, 255), (70_000, 255)])
def test_integers_of_32_bits_are_clipped_on_both_sides(tmp_path: Path, value: int, expected: int) -> None:
    PIL.Image.fromarray(np.full((2, 2), value, dtype=np.int32)).save(tmp_path / "x.tif")
    assert (np.asarray(read_image(tmp_path / "x.tif", options=ReadOptions(12))) == expected).all()


def test_images_of_8_bits_do_not_depend_on_it(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for name, image in (("a.png", PIL.Image.fromarray(pixels)), ("b.png", PIL.Image.fromarray(pixels[..., 0]))):
        image.save(tmp_path / name)
        assert measure_depth(tmp_path / name) == DeepValues()
        read = [np.asarray(read_image(tmp_path / name, options=ReadOptions(bits))) for bits in (8, 12, 16)]
        np.testing.assert_array_equal(read[0], read[1])
        np.testing.assert_array_equal(read[0], read[2])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_deep_image_is_turned_upright(channels: int) -> None:
    values = RNG.integers(0, 1 << 12, (6, 8, channels)).astype(np.uint16)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(content)) + b"eXIf" + content + struct.pack(">I", zlib.crc32(b"eXIf" + content))
    file = io.BytesIO(png(values, 2 if channels == 3 else 0, chunk))
    pixels = np.asarray(read_image(Path("x"), file, ReadOptions(12)))
    np.testing.assert_array_equal(pixels, (colours(values) * 255 // 4095).swapaxes(0, 1)[:, ::-1])


def test_a_tiff_of_12_bits_says_so_however_dark_it_is(tmp_path: Path) -> None:
    values = RNG.integers(0, 200, (6, 8, 1)).astype(np.uint16)
    file = io.BytesIO(tiff(values, "<", False, bits=12))
    found = measure_depth(tmp_path, file)
    assert found == DeepValues(1, int(values.max()), 12)
    assert found.bit_depth == 12
    pixels = np.asarray(read_image(tmp_path, file, ReadOptions(12)))
    np.testing.assert_array_equal(pixels, colours(values) * 255 // 4095)


def test_what_png_calls_significant_bits_changes_nothing() -> None:
    """They say what the values were before they were scaled up to 16 bits."""
    values = (RNG.integers(0, 1 << 12, (6, 8, 1)) << 4).astype(np.uint16)
    values[0, 0] = 0xFFF0
    chunk = struct.pack(">I", 1) + b"sBIT\x0c" + struct.pack(">I", zlib.crc32(b"sBIT\x0c"))
    assert measure_depth(Path("x"), io.BytesIO(png(values, 0, chunk))).bit_depth == 16


def test_an_image_from_a_program_is_read_like_its_file(tmp_path: Path) -> None:
    values = RNG.integers(0, 1 << 12, (6, 8, 3)).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(png(values, 2))
    expected = np.asarray(read_image(tmp_path / "x.png", options=ReadOptions(12)))
    with PIL.Image.open(tmp_path / "x.png") as image:
        assert is_deep(image)
        np.testing.assert_array_equal(np.asarray(to_rgb(image, ReadOptions(12))), expected)
    grey = PIL.Image.fromarray(values[..., 0])
    np.testing.assert_array_equal(
        np.asarray(to_rgb(grey, ReadOptions(12)))[..., 0], values[..., 0].astype(int) * 255 // 4095
    )


@pytest.mark.parametrize(
    ("largest", "bits"),
    [(0, 16), (1, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16_384, 16), (65_535, 16)],
)
def test_the_fewest_bits_that_hold_all_values(largest: int, bits: int) -> None:
    assert join_values([DeepValues(1, 0), DeepValues(2, largest), DeepValues()]).bit_depth == bits
    assert DeepValues().bit_depth == 16


@pytest.mark.parametrize(
    ("held", "bit_depth", "is_recognised", "kind", "parts"),
    [
        (DeepValues(), 12, True, None, []),
        (DeepValues(3, 4000), 12, False, None, []),
        (DeepValues(3, 60_000), 16, True, None, []),
        (DeepValues(3, 3200), 12, True, "low_bit_depth", ["3 images", "up to 3200", "12 bits", "data.bit_depth=12"]),
        (DeepValues(3, 3200), 16, False, "low_bit_depth", ["use 12 bits", "at most 12 of 255", "data.bit_depth=12"]),
        (DeepValues(3, 1024), 10, False, "clipped_values", ["up to 1024, above 1023", "10 bits"]),
        (DeepValues(3, 70_000), 16, False, "clipped_values", ["up to 70000, above 65535"]),
    ],
)
def test_what_is_said_of_them(
    held: DeepValues, bit_depth: int, is_recognised: bool, kind: str | None, parts: list[str]
) -> None:
    found = describe_bit_depth(held, bit_depth, is_recognised)
    assert [name for name, _ in found] == ([kind] if kind else [])
    assert all(part in reason for _, reason in found for part in parts), found


def test_images_that_are_predicted_are_measured(tmp_path: Path) -> None:
    """Those of 8 bits say nothing, and one that cannot be read is ignored."""
    PIL.Image.fromarray(np.full((4, 5), 4000, np.uint16)).save(tmp_path / "deep.png")
    PIL.Image.fromarray(np.full((4, 5), 255, np.uint8)).save(tmp_path / "usual.png")
    (tmp_path / "broken.png").write_bytes(b"")
    paths = sorted(tmp_path.iterdir())
    assert measure_depths(paths) == DeepValues(num_images=1, largest=4000)
    ((_, reason),) = describe_bit_depth(measure_depths(paths), 16)
    assert "Read as 16 bits they are dark, at most 15 of 255. Set data.bit_depth=12" in reason
