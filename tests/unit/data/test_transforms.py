"""One preprocessing, boxes that follow their pixels, randomness that depends on the entropy alone."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from rfdetr_hwd.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageError,
    RandomSizeCrop,
    augment,
    build_augmentation,
    normalise_boxes,
    preprocess,
    read_image,
)


def image_with_boxes() -> tuple[PIL.Image.Image, torch.Tensor, torch.Tensor]:
    """A black image with a red and a green rectangle, and their boxes."""
    pixels = np.zeros((80, 100, 3), dtype=np.uint8)
    pixels[10:30, 20:60, 0] = 255
    pixels[50:70, 70:90, 1] = 255
    boxes = torch.tensor([[20.0, 10, 60, 30], [70, 50, 90, 70]])
    return PIL.Image.fromarray(pixels), boxes, torch.tensor([0, 1])


def extent(pixels: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(pixels > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_follow_their_pixels(seed: int) -> None:
    image, boxes, labels = image_with_boxes()
    transform = build_augmentation(flip=0.5, crop=1.0, min_crop=0.5)
    changed, new_boxes, new_labels = augment(image, boxes, labels, transform, (seed,))
    pixels = np.asarray(changed)
    for box, label in zip(new_boxes, new_labels, strict=True):
        assert box.tolist() == extent(pixels[..., label])
    seen = {channel for channel in (0, 1) if (pixels[..., channel] > 127).any()}
    assert set(new_labels.tolist()) == seen


def test_a_flip_by_hand() -> None:
    image, boxes, labels = image_with_boxes()
    _, flipped, _ = augment(image, boxes, labels, build_augmentation(1.0, 0.0, 1.0), (0,))
    assert flipped.tolist() == [[40, 10, 80, 30], [10, 50, 30, 70]]


def test_the_same_entropy_gives_the_same_image_and_leaves_the_generator_alone() -> None:
    image, boxes, labels = image_with_boxes()
    transform = build_augmentation(0.5, 0.5, 0.5)
    before = torch.get_rng_state()
    results = [np.asarray(augment(image, boxes, labels, transform, entropy)[0]) for entropy in [(1, 2), (1, 2)]]
    assert np.array_equal(*results)
    assert torch.equal(torch.get_rng_state(), before)
    different = {np.asarray(augment(image, boxes, labels, transform, (0, i))[0]).tobytes() for i in range(20)}
    assert len(different) > 5


def test_crops_keep_their_bounds() -> None:
    crop = RandomSizeCrop(0.6)
    for _ in range(50):
        params = crop.make_params([PIL.Image.new("RGB", (100, 80))])
        assert 60 <= params["width"] <= 100
        assert 48 <= params["height"] <= 80
        assert params["left"] + params["width"] <= 100
        assert params["top"] + params["height"] <= 80


def test_an_image_without_boxes_stays() -> None:
    image = PIL.Image.new("RGB", (50, 40))
    _, boxes, labels = augment(
        image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), build_augmentation(1.0, 1.0, 0.5), (3,)
    )
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)


def test_preprocessing_is_pillows_antialiased_resize() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(pixels)
    resized = np.asarray(image.resize((64, 64), PIL.Image.Resampling.BILINEAR), dtype=np.float32) / 255
    expected = (resized - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    result = preprocess(image, 64)
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_boxes_are_normalised_by_hand() -> None:
    result = normalise_boxes(torch.tensor([[20.0, 10, 60, 30]]), height=80, width=100)
    torch.testing.assert_close(result, torch.tensor([[0.4, 0.25, 0.4, 0.25]]))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = PIL.Image.new("RGB", (30, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").size == (20, 30)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xe0 cut", b"GIF89a" + b"\0" * 40])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="broken.jpg"):
        read_image(path)
    with pytest.raises(ImageError, match="none.jpg"):
        read_image(tmp_path / "none.jpg")


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PIL.Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ImageError, match="a.png: .*exceeds limit"):
        read_image(tmp_path / "a.png")
