"""Scaled and rotated boxes are those computed by hand, and lie around their pixels."""

import math

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.scene import Scene
from rfdetr_hwd.data.transforms import MEAN_COLOUR
from rfdetr_hwd.data.warping import warp, warp_boxes, warp_randomly

SIZE = (100, 80)
C5, S5 = math.cos(math.radians(5)), math.sin(math.radians(5))


def scene(*boxes: tuple[float, float, float, float]) -> Scene:
    """A black image with a white rectangle in each box."""
    image = PIL.Image.new("RGB", SIZE)
    for x0, y0, x1, y1 in boxes:
        image.paste((255, 255, 255), (int(x0), int(y0), int(x1), int(y1)))
    return Scene(image, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.arange(len(boxes)))


@pytest.mark.parametrize(
    ("box", "angle", "factor", "shift", "expected"),
    [
        # a quarter clockwise about (50, 40): (x, y) goes to (90 - y, x - 10)
        ((20, 10, 60, 30), 90, 1, (0, 0), (60, 10, 80, 50)),
        # a box of half extents 20 and 5 around the centre: they become 20 cos + 5 sin and 20 sin + 5 cos
        ((30, 35, 70, 45), 5, 1, (0, 0), (50 - 20.359673, 40 - 6.724088, 50 + 20.359673, 40 + 6.724088)),
        ((30, 35, 70, 45), -5, 1, (0, 0), (50 - 20.359673, 40 - 6.724088, 50 + 20.359673, 40 + 6.724088)),
        # its centre (10, 0) from the image's: it goes to (10 cos, 10 sin); extents as for half sides of 10
        (
            (50, 30, 70, 50), 5, 1, (0, 0),
            (50 - 10 * S5, 40 + 10 * S5 - 10 * (C5 + S5), 50 + 20 * C5 + 10 * S5, 40 + 20 * S5 + 10 * C5),
        ),
        ((20, 10, 60, 30), 0, 0.5, (10, -5), (45, 20, 65, 30)),
        ((40, 30, 60, 50), 0, 2, (0, 0), (30, 20, 70, 60)),
    ],
)  # fmt: skip
def test_boxes_by_hand(
    box: tuple[float, ...], angle: float, factor: float, shift: tuple[float, float], expected: tuple[float, ...]
) -> None:
    assert warp_boxes(torch.tensor([box], dtype=torch.float64), SIZE, angle, factor, shift).tolist()[
        0
    ] == pytest.approx(expected, abs=1e-4)


def test_boxes_are_clipped_and_what_is_hardly_seen_is_dropped() -> None:
    """Twice as large about (50, 40): 40 of 1600 square pixels of the first box stay, and 5 % of the third."""
    found = warp(scene((20, 20, 40, 40), (0, 0, 20, 20), (0, 0, 27, 30)), 0, 2, (0, 0))
    assert found.boxes_xyxy.tolist() == [[0, 0, 30, 40]]
    assert found.labels.tolist() == [0]
    assert found.image.size == SIZE


@given(
    angle=st.floats(-45, 45),
    factor=st.floats(0.5, 2),
    shift=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
    corners=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_boxes_are_torchvisions(
    angle: float, factor: float, shift: tuple[float, float], corners: list[tuple[float, float, float, float]]
) -> None:
    pairs = torch.tensor(corners).reshape(-1, 2, 2).sort(dim=1).values
    boxes = pairs.reshape(-1, 4) * torch.tensor([*SIZE, *SIZE])
    wrapped = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=SIZE[::-1], clamping_mode=None)
    expected = functional.affine(wrapped, angle, list(shift), factor, [0.0, 0.0]).as_subclass(torch.Tensor)
    assert torch.allclose(warp_boxes(boxes, SIZE, angle, factor, shift), expected, atol=1e-3)


@pytest.mark.parametrize(("angle", "factor", "shift"), [(0, 0.7, (8, -6)), (8, 1, (0, 0)), (-6, 1.2, (5, 3))])
def test_a_box_lies_around_its_pixels(angle: float, factor: float, shift: tuple[float, float]) -> None:
    found = warp(scene((40, 32, 64, 50)), angle, factor, shift)
    is_white = np.asarray(found.image).min(axis=-1) > 190  # above the mean colour, which fills the rest
    rows, columns = np.nonzero(is_white)
    extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(found.boxes_xyxy.numpy()[0] - extent).max() < 2.5


def test_what_lies_outside_has_the_mean_colour() -> None:
    small = warp(scene(), 0, 0.5, (0, 0)).image
    assert {small.getpixel(place) for place in ((2, 2), (97, 77))} == {MEAN_COLOUR}
    assert small.getpixel((50, 40)) == (0, 0, 0)


def test_probabilities_and_ranges_are_kept() -> None:
    """A box around the centre says the factor: its width is 20 times as large."""
    start = scene((40, 30, 60, 50))
    parts = AugmentSection(scale=1, min_scale=0.8, max_scale=1.5)
    drawn = [warp_randomly(start, parts, np.random.default_rng(seed)).boxes_xyxy for seed in range(40)]
    factors = [float(boxes[0, 2] - boxes[0, 0]) / 20 for boxes in drawn]
    assert 0.8 <= min(factors) < 0.9
    assert 1.4 < max(factors) <= 1.5
    parts = AugmentSection(scale=0.0, rotate=0.3, max_angle=5)
    changed = [warp_randomly(start, parts, np.random.default_rng(seed)) is not start for seed in range(200)]
    assert 30 < sum(changed) < 90
