"""Keypoints are told from polygons: no outline is suspected, and keypoints are."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import Generator

from rfdetr_hwd.data.yolo.pose import PoseSuspicion, looks_like_pose

Shape = Callable[[Generator, float], list[float]]


def oriented_box(rng: Generator, spread: float) -> list[float]:
    (cx, cy), (w, h) = rng.uniform(0.5 - spread, 0.5 + spread, 2), rng.uniform(0.05, 0.3, 2)
    turn = rng.uniform(0, math.pi)
    corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    turned = corners @ [[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]] + [cx, cy]
    return list(turned.ravel())


def upright_box(rng: Generator, spread: float) -> list[float]:
    (cx, cy), (w, h) = rng.uniform(0.5 - spread, 0.5 + spread, 2), rng.uniform(0.05, 0.3, 2) / 2
    return [cx - w, cy - h, cx + w, cy - h, cx + w, cy + h, cx - w, cy + h]


def outline(rng: Generator, spread: float) -> list[float]:
    angles = np.linspace(0, 2 * math.pi, 16, endpoint=False)
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.02, 0.15, (16, 1))
    return list((points + rng.uniform(0.5 - spread, 0.5 + spread, 2)).ravel())


def pose(num_keypoints: int, dims: int) -> Shape:
    def draw(rng: Generator, spread: float) -> list[float]:
        extent = rng.uniform(0.1, 0.4, 2)
        center = rng.uniform(extent / 2, 1 - extent / 2)
        points = rng.uniform(center - extent / 2, center + extent / 2, (num_keypoints, 2))
        seen = rng.integers(0, 3, (num_keypoints, 1))
        values = np.concatenate([points * (seen > 0), seen], axis=1) if dims == 3 else points
        return [*center, *extent, *values.ravel()]

    return draw


@pytest.mark.parametrize("shape", [oriented_box, upright_box, outline])
@pytest.mark.parametrize("spread", [0.02, 0.1, 0.3])
def test_outlines_are_not_suspected(shape: Shape, spread: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        suspicion = PoseSuspicion()
        for _ in range(12):
            values = shape(rng, spread)
            assert not looks_like_pose(values)
            suspicion.add(values)
        assert suspicion.reason() == ""


@pytest.mark.parametrize("num_keypoints", [4, 5, 17])
def test_keypoints_without_visibility_are_suspected(num_keypoints: int) -> None:
    rng, draw = np.random.default_rng(0), pose(num_keypoints, 2)
    for _ in range(30):
        suspicion = PoseSuspicion()
        for _ in range(8):
            suspicion.add(draw(rng, 0))
        assert f"kpt_shape: [{num_keypoints}, 2]" in suspicion.reason()


def test_polygons_of_several_lengths_or_few_of_them_are_not_suspected() -> None:
    rng, few, mixed = np.random.default_rng(0), PoseSuspicion(), PoseSuspicion()
    for number in range(5):
        few.add(pose(5, 2)(rng, 0))
        mixed.add(pose(5 + number % 2, 2)(rng, 0))
    assert (few.reason(), mixed.reason()) == ("", "")


@pytest.mark.parametrize("num_keypoints", [1, 4, 17])
def test_keypoints_with_visibility_are_seen_in_each_row(num_keypoints: int) -> None:
    rng, draw = np.random.default_rng(0), pose(num_keypoints, 3)
    rows = [draw(rng, 0) for _ in range(200)]
    decided = [row for row in rows if num_keypoints % 2 or 2.0 in row[6::3] or any(row[6::3])]
    assert len(decided) > 150
    assert all(map(looks_like_pose, decided))


@pytest.mark.parametrize(
    "values",
    [
        [0, 0, 1, 0, 1, 1, 0, 1, 0, 0],  # the whole image, closed
        [0.2, 0.1, 0.9, 0.3, 0.8, 0.7, 0, 0.4, 0.5, 1],
        [0.2, 0.1, 0.9, 0.3, 0.8, 0.7, 0.1, 0.4, 0.5, 0.9, 0.3, 0.2, 0.5],
        [0.5, 0.5, 0.2, 0.2],
    ],
)
def test_polygons_that_touch_the_border_are_no_keypoints(values: list[float]) -> None:
    assert not looks_like_pose(values)
