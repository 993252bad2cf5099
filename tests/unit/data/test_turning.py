"""Quarter turns and vertical flips keep every pixel, and boxes follow them."""

import numpy as np
import PIL.Image
import pytest
import torch

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.scene import Scene
from rfdetr_hwd.data.turning import flip_vertically, turn, turn_randomly


def scene() -> Scene:
    """An image of 100 x 80 with a red rectangle in its only box."""
    pixels = np.zeros((80, 100, 3), dtype=np.uint8)
    pixels[10:30, 20:60, 0] = 255
    return Scene(PIL.Image.fromarray(pixels), torch.tensor([[20.0, 10, 60, 30]]), torch.tensor([4]))


@pytest.mark.parametrize(
    ("quarters", "size", "box"),
    [
        (0, (100, 80), [20, 10, 60, 30]),
        (1, (80, 100), [10, 40, 30, 80]),  # (x, y) goes to (y, 100 - x)
        (2, (100, 80), [40, 50, 80, 70]),
        (3, (80, 100), [50, 20, 70, 60]),
    ],
)
def test_turns_by_hand(quarters: int, size: tuple[int, int], box: list[float]) -> None:
    image, boxes, labels = turn(scene(), quarters)
    assert (image.size, boxes.tolist(), labels.tolist()) == (size, [box], [4])
    assert np.array_equal(np.asarray(image), np.rot90(np.asarray(scene().image), quarters))
    x0, y0, x1, y1 = box
    assert np.argwhere(np.asarray(image)[..., 0]).min(axis=0).tolist() == [y0, x0]
    assert (np.argwhere(np.asarray(image)[..., 0]).max(axis=0) + 1).tolist() == [y1, x1]


def test_a_vertical_flip_by_hand() -> None:
    image, boxes, _ = flip_vertically(scene())
    assert boxes.tolist() == [[20, 50, 60, 70]]
    assert np.array_equal(np.asarray(image), np.asarray(scene().image)[::-1])


def test_all_directions_are_as_likely() -> None:
    parts = AugmentSection(turn=0.75)
    boxes = [turn_randomly(scene(), parts, np.random.default_rng(seed)).boxes_xyxy.tolist()[0] for seed in range(400)]
    expected = [turn(scene(), quarters).boxes_xyxy.tolist()[0] for quarters in range(4)]
    assert [boxes.count(box) for box in expected] == pytest.approx([100] * 4, abs=30)
    parts = AugmentSection(vertical_flip=1.0)
    assert turn_randomly(scene(), parts, np.random.default_rng(0)).boxes_xyxy.tolist() == [[20, 50, 60, 70]]
