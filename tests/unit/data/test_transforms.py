"""One preprocessing, boxes that follow their pixels, randomness that depends on the entropy alone."""

import numpy as np
import PIL.Image
import pytest
import torch

from rfdetr_hwd.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RandomSizeCrop,
    augment,
    build_augmentation,
    canvas_size,
    fitted_size,
    normalise_boxes,
    preprocess,
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


def test_the_generators_of_gpus_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seed: int) -> None:
        raise AssertionError("the generator that dropout draws from was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    augment(*image_with_boxes(), build_augmentation(0.5, 0.5, 0.5), (1,))


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


@pytest.mark.parametrize(("height", "width"), [(90, 130), (131, 77), (64, 64), (3, 500)])
def test_letterboxed_boxes_come_back_exactly(height: int, width: int) -> None:
    side = 64
    fitted = fitted_size(height, width, side, "letterbox")
    assert max(fitted) == side
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = preprocess(PIL.Image.fromarray(pixels), side, "letterbox")
    assert image.shape == (3, side, side)
    assert (image[:, fitted[0] :] == 0).all()
    assert (image[:, :, fitted[1] :] == 0).all()
    assert (image[:, : fitted[0], : fitted[1]] != 0).any()
    canvas = canvas_size(height, width, side, "letterbox")
    whole = normalise_boxes(torch.tensor([[0.0, 0, width, height]], dtype=torch.float64), *canvas)
    shown = [0, 0, fitted[1] / side, fitted[0] / side]  # where the pixels of the whole image are
    torch.testing.assert_close(whole[0, 2:], torch.tensor(shown[2:], dtype=torch.float64))
    box = torch.tensor([[1.0, 2, width - 0.25, height]], dtype=torch.float64)
    cx, cy, w, h = normalise_boxes(box, *canvas)[0].tolist()
    corners = [(cx - w / 2) * canvas[1], (cy - h / 2) * canvas[0], (cx + w / 2) * canvas[1], (cy + h / 2) * canvas[0]]
    np.testing.assert_allclose(corners, box[0], atol=1e-9)


def test_stretching_has_the_image_as_its_canvas() -> None:
    assert canvas_size(131, 77, 96, "stretch") == (131.0, 77.0)
