"""Boxes follow their pixels, and randomness depends on the entropy alone."""

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.augmentation import augment, draw_crop, draw_seed
from rfdetr_hwd.data.scene import Scene


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
    transform = AugmentSection(flip=0.5, crop=1.0, min_crop=0.5)
    changed, new_boxes, new_labels = augment(Scene(image, boxes, labels), transform, (seed,))
    pixels = np.asarray(changed)
    for box, label in zip(new_boxes, new_labels, strict=True):
        assert box.tolist() == extent(pixels[..., label])
    seen = {channel for channel in (0, 1) if (pixels[..., channel] > 127).any()}
    assert set(new_labels.tolist()) == seen


def test_a_flip_by_hand() -> None:
    image, boxes, labels = image_with_boxes()
    _, flipped, _ = augment(Scene(image, boxes, labels), AugmentSection(flip=1.0, crop=0.0, min_crop=1.0), (0,))
    assert flipped.tolist() == [[40, 10, 80, 30], [10, 50, 30, 70]]


def test_the_same_entropy_gives_the_same_image_and_leaves_the_generator_alone() -> None:
    image, boxes, labels = image_with_boxes()
    transform = AugmentSection(min_crop=0.5)
    before = torch.get_rng_state()
    results = [np.asarray(augment(Scene(image, boxes, labels), transform, entropy)[0]) for entropy in [(1, 2), (1, 2)]]
    assert np.array_equal(*results)
    assert torch.equal(torch.get_rng_state(), before)
    different = {np.asarray(augment(Scene(image, boxes, labels), transform, (0, i))[0]).tobytes() for i in range(20)}
    assert len(different) > 5


def test_crops_keep_their_bounds() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        left, top, width, height = draw_crop(80, 100, 0.6, generator)
        assert 60 <= width <= 100
        assert 48 <= height <= 80
        assert left + width <= 100
        assert top + height <= 80
        assert min(left, top) >= 0


def test_an_image_without_boxes_stays() -> None:
    image = PIL.Image.new("RGB", (50, 40))
    _, boxes, labels = augment(
        Scene(image, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)),
        AugmentSection(flip=1.0, crop=1.0, min_crop=0.5),
        (3,),
    )
    assert boxes.shape == (0, 4)
    assert labels.shape == (0,)


class SizeCrop(v2.Transform):
    """The crop as a transform of torchvision, which drew from the default generator."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, int]:
        left, top, width, height = draw_crop(*functional.get_size(flat_inputs[0]), 0.4, torch.default_generator)
        return {"top": top, "left": left, "height": height, "width": width}

    def transform(self, inpt: Any, params: dict[str, int]) -> Any:
        return self._call_kernel(functional.crop, inpt, **params)


@given(
    seed=st.integers(0, 2**40),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    corners=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_it_is_torchvisions_to_the_bit(
    seed: int, size: tuple[int, int], corners: list[tuple[float, float, float, float]]
) -> None:
    """The runs of earlier versions, which called torchvision's transforms, keep their augmentation."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image, labels = PIL.Image.fromarray(pixels), torch.arange(len(corners))
    pairs = torch.tensor(corners).reshape(-1, 2, 2).sort(dim=1).values
    boxes = pairs.reshape(-1, 4) * torch.tensor([width, height, width, height])
    transform = v2.Compose(
        [
            v2.RandomHorizontalFlip(0.5),
            v2.RandomApply([SizeCrop()], 0.6),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(min_size=1, labels_getter=lambda inputs: inputs[2]),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw_seed((seed,)))
        wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))
        expected = transform(image, wrapped, labels)
    changed = augment(Scene(image, boxes, labels), AugmentSection(flip=0.5, crop=0.6, min_crop=0.4), (seed,))
    assert np.array_equal(changed[0], expected[0])
    assert torch.equal(changed[1], expected[1].as_subclass(torch.Tensor))
    assert torch.equal(changed[2], expected[2])
