"""Mosaic and mixup: layouts computed by hand, and boxes that stay in the image."""

import numpy as np
import PIL.Image
import pytest
import torch

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.mixing import View, fill_tile, mix, mixup, mosaic
from rfdetr_hwd.data.scene import Scene

COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]


def scene(size: tuple[int, int], colour: tuple[int, int, int], label: int, *boxes: list[float]) -> Scene:
    return Scene(
        PIL.Image.new("RGB", size, colour), torch.tensor(boxes).reshape(-1, 4), torch.full((len(boxes),), label)
    )


def test_a_mosaic_by_hand() -> None:
    """100 x 80 pixels, the images meet at (40, 30)."""
    scenes = [
        scene((80, 60), COLOURS[0], 0, [20.0, 10, 60, 30]),  # half as large in 40 x 30
        scene((60, 60), COLOURS[1], 1, [10.0, 20, 30, 50]),  # 60 x 30: the lower half is seen, 20 of 30 rows of the box
        scene((40, 50), COLOURS[2], 2, [5.0, 5, 15, 15], [25, 30, 35, 40]),  # twice as large, the top left is seen
        scene((120, 100), COLOURS[3], 3, [0.0, 0, 120, 100]),  # half as large in 60 x 50
    ]
    views = [View(), View(down=1.0), View(2.0, 0.0, 0.0), View()]
    image, boxes, labels = mosaic(scenes, (100, 80), (40, 30), views)
    assert boxes.tolist() == [[10, 5, 30, 15], [50, 0, 70, 20], [10, 40, 30, 60], [40, 30, 100, 80]]
    assert labels.tolist() == [0, 1, 2, 3]
    assert image.size == (100, 80)
    for (x, y), colour in zip([(39, 29), (40, 29), (39, 30), (40, 30)], COLOURS, strict=True):
        assert image.getpixel((x, y)) == colour


@pytest.mark.parametrize("centre", [(0, 0), (1, 0), (1, 1)])
def test_an_image_of_one_pixel_has_a_mosaic(centre: tuple[int, int]) -> None:
    image, boxes, _ = mosaic([scene((5, 5), COLOURS[0], 0)] * 4, (1, 1), centre, [View()] * 4)
    assert (image.size, boxes.shape) == ((1, 1), (0, 4))


def test_mixup_by_hand() -> None:
    """The other image fills this one: 200 x 100 is seen from x = 50 to 150, at its own size."""
    one = scene((100, 100), (200, 0, 0), 0, [1.0, 2, 3, 4])
    other = scene((200, 100), (0, 100, 0), 1, [40.0, 10, 90, 20])
    image, boxes, labels = mixup(one, other, 0.25)
    assert boxes.tolist() == [[1, 2, 3, 4], [0, 10, 40, 20]]
    assert labels.tolist() == [0, 1]
    assert image.getpixel((5, 5)) == (150, 25, 0)


def test_the_objects_of_a_tile_are_where_their_pixels_are() -> None:
    image = PIL.Image.new("RGB", (200, 120))
    image.paste((255, 255, 255), (60, 40, 100, 80))
    found = fill_tile(Scene(image, torch.tensor([[60.0, 40, 100, 80]]), torch.tensor([0])), 90, 70, View(1.3, 0.3, 0.6))
    rows, columns = np.nonzero(np.asarray(found.image)[..., 0] > 127)
    extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(found.boxes_xyxy.numpy()[0] - extent).max() < 1
    assert found.image.size == (90, 70)


def test_partners_are_asked_for_only_if_they_are_needed() -> None:
    def partner(number: int) -> Scene:
        asked.append(number)
        return scene((30, 20), COLOURS[number], number, [0.0, 0, 30, 20])

    start = scene((50, 40), (9, 9, 9), 9, [5.0, 5, 45, 35])
    for mosaics, mixups, expected in ((1.0, 0.0, [0, 1, 2]), (0.0, 1.0, [3]), (1.0, 1.0, [0, 1, 2, 3]), (0.0, 0.0, [])):
        asked: list[int] = []
        found = mix(start, AugmentSection(mosaic=mosaics, mixup=mixups), np.random.default_rng(3), partner)
        assert asked == expected
        assert found.image.size == (50, 40)
        assert {9, *expected} == set(found.labels.tolist())
