"""Whatever a program holds as an image becomes the same RGB pixels, or is one clear error."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from rfdetr_hwd.data.image_input import as_rgb, check_images, is_image
from rfdetr_hwd.data.images import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
CHANNELS_FIRST = torch.from_numpy(PIXELS).permute(2, 0, 1)
GREY = np.arange(35, dtype=np.uint8).reshape(5, 7)


def test_every_kind_is_the_same_image(tmp_path: Path) -> None:
    PIL.Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with PIL.Image.open(tmp_path / "a.png") as opened:
        kinds = [
            *(tmp_path / "a.png", str(tmp_path / "a.png"), opened, PIL.Image.fromarray(PIXELS)),
            *(PIXELS, np.asfortranarray(PIXELS), PIXELS[::-1][::-1], PIXELS / 255, (PIXELS / 255).astype(np.float32)),
            *(np.dstack([PIXELS, GREY]), CHANNELS_FIRST, CHANNELS_FIRST / 255, (CHANNELS_FIRST / 255).requires_grad_()),
        ]
        for kind in kinds:
            assert is_image(kind)
            assert np.array_equal(np.asarray(as_rgb(kind, "x")), PIXELS)


def test_grey_is_grey_in_every_channel() -> None:
    tensor = torch.from_numpy(GREY)
    for kind in (GREY, GREY[..., None], PIL.Image.fromarray(GREY), tensor, tensor[None], GREY / 255):
        assert np.array_equal(np.asarray(as_rgb(kind, "x")), np.dstack([GREY] * 3))


def test_bfloat16_is_within_its_precision() -> None:
    found = np.asarray(as_rgb((CHANNELS_FIRST / 255).bfloat16(), "x")).astype(int)
    assert np.abs(found - PIXELS).max() <= 1


def test_a_photograph_is_turned_upright() -> None:
    image, exif = PIL.Image.fromarray(PIXELS), PIL.Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    assert as_rgb(PIL.Image.open(buffer), "x").size == (5, 7)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((3, 5, 7), np.uint8), r"shape \(3, 5, 7\) is not \(height, width, channels\)"),
        (np.zeros((5, 7, 2), np.uint8), r"shape \(5, 7, 2\)"),
        (np.zeros((0, 7, 3), np.uint8), r"shape \(0, 7, 3\)"),
        (np.zeros((2, 5, 7, 3), np.uint8), r"shape \(2, 5, 7, 3\)"),
        (np.zeros(7, np.uint8), r"shape \(7,\)"),
        (torch.zeros(5, 7, 3), r"shape \(5, 7, 3\) is not \(channels, height, width\)"),
        (np.zeros((5, 7, 3), np.int64), "the type int64 is neither uint8 nor"),
        (np.zeros((5, 7, 3), np.uint16), "the type uint16"),
        (np.zeros((5, 7, 3), bool), "the type bool"),
        (np.array(["a.jpg", "b.jpg"]), r"shape \(2,\)"),
        (PIXELS.astype(np.float32), "must be in .0, 1., but these range from 0 to 248"),
        (CHANNELS_FIRST / 255 - 0.5, "these range from -0.5 to 0.47"),
        (np.full((5, 7, 3), np.nan), "these range from nan to nan"),
        (PIL.Image.new("RGB", (0, 3)), "no pixels"),
        (PIL.Image.new("F", (2, 2)), "floating-point pixels"),
        ("no/such.jpg", "no/such.jpg: No such file"),
        ("", "not a regular file"),
        (None, "is None; an image is a path, a PIL image"),
        (b"\xff\xd8", "is of type bytes"),
        ([PIXELS], "is of type list"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_image_is_one_clear_error(image: object, reason: str) -> None:
    with pytest.raises(ImageError, match=rf"^images\[3\].*{reason}"):
        as_rgb(image, "images[3]")


def test_an_image_that_ends_early_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PIL.Image.fromarray(np.tile(PIXELS, (20, 20, 1))).save(path)
    path.write_bytes(path.read_bytes()[:400])
    with PIL.Image.open(path) as image, pytest.raises(ImageError, match=r"images\[0\]: "):
        as_rgb(image, "images[0]")
    closed = PIL.Image.fromarray(PIXELS)
    closed.close()
    with pytest.raises(ImageError, match="closed"):
        as_rgb(closed, "images[0]")


def test_several_images_are_told_from_one() -> None:
    for several in ([], [PIXELS], (PIXELS,), iter([PIXELS]), np.stack([PIXELS, PIXELS]), CHANNELS_FIRST[None]):
        assert not is_image(several)
        assert check_images(several) is several
    for neither in (None, 3, b"bytes", {"a.jpg": 1}):
        assert not is_image(neither)
        with pytest.raises(ImageError, match="expected an image or a list of images, not"):
            check_images(neither)
