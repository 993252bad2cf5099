"""A segmentation is reduced to the box that pycocotools has for it, and what is none is named."""

from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.data.segmentation import Outline, outline_of


def encode(mask: np.ndarray, is_compressed: bool) -> dict[str, Any]:
    """Return the RLE of a mask, compressed by pycocotools or counted here."""
    if is_compressed:
        rle = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": list(mask.shape), "counts": rle["counts"].decode()}
    pixels = mask.T.reshape(-1)  # column by column
    changes = np.flatnonzero(np.diff(np.concatenate([[False], pixels, [not pixels[-1]]])))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], changes])).tolist()}


@pytest.mark.parametrize("is_compressed", [True, False])
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), st.floats(0, 1), st.integers(0, 10**6))
def test_the_box_of_a_mask_is_that_of_pycocotools(
    is_compressed: bool, height: int, width: int, share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=bool)
    y, x = rng.integers(0, height), rng.integers(0, width)
    mask[y : y + rng.integers(1, 20), x : x + rng.integers(1, 200)] = True
    mask &= rng.random((height, width)) < share
    rle = encode(mask, is_compressed)
    outline = outline_of(rle)
    if not mask.any():
        assert outline == Outline(None, None, "its RLE marks no pixel")
        return
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert outline == Outline(tuple(map(float, box)), (height, width))
    reference = rle if is_compressed else pycocotools.mask.frPyObjects(rle, height, width)
    assert pycocotools.mask.toBbox(reference).tolist() == list(box)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[26, 19, 46, 19, 46, 35.5, 26, 35.5]],
        [[26, 19, 30, 19, 30, 25], [], [46, 35.5, 40, 30, 41, 22]],
        [26, 19, 46, 19, 46, 35.5],
        [[26, 19], [46, 19], [46, 35.5]],
        [[[26, 19], [46, 19], [46, 35.5]]],
        [["26", 19, 46, "19.0", 46, "35.5"]],
    ],
)
def test_the_box_of_polygons_goes_from_their_smallest_to_their_largest_coordinates(segmentation: Any) -> None:
    assert outline_of(segmentation) == Outline((26, 19, 20, 16.5))


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ([], "its segmentation is []"),
        ([[]], "its segmentation holds []"),
        ("x", "its segmentation is 'x'"),
        (7, "its segmentation is 7"),
        ([[1, 2, 3, 4]], "[1, 2, 3, 4], but a polygon has at least three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "but a polygon has at least three points"),
        ([[1, 2, 3, 4, 5, None]], "holds None, but coordinates must be numbers"),
        ([[1, 2, 3, 4, 5, float("inf")]], "holds inf"),
        ([[1, 2, 3, 4, 5, 1e300]], "holds 1e+300"),
        ([[[1, 2, 3], [3, 4, 3], [4, 4, 3]]], "but a polygon has at least three points"),
        ([{"x": 1}], "its segmentation holds"),
        ({"size": [4, 5]}, "the counts None"),
        ({"size": [4, 5], "counts": [1, "2"]}, "the counts [1, '2']"),
        ({"size": [4, 5], "counts": [1, True]}, "the counts [1, True]"),
        ({"size": [4, 5], "counts": [-1, 3]}, "negative or larger"),
        ({"size": [4, 5], "counts": [1, 10**30]}, "negative or larger"),
        ({"size": [4, 5], "counts": [11, 11]}, "describes 22 pixels of an image of 5x4"),
        ({"size": [4, 5], "counts": []}, "marks no pixel"),
        ({"size": [4, 5], "counts": [20]}, "marks no pixel"),
        ({"size": [0, 5], "counts": [1, 2]}, "the size [0, 5]"),
        ({"size": [2**40, 5], "counts": [1, 2]}, "the size"),
        ({"size": 4, "counts": [1, 2]}, "the size 4"),
        ({"size": [4, 5], "counts": "~~"}, "no compressed RLE"),
        ({"size": [4, 5], "counts": "猫"}, "no compressed RLE"),
        ({"size": [4, 5], "counts": "P" * 1_000_000}, "no compressed RLE"),  # one number of megabits
        ({"size": [4, 5], "counts": "P"}, "is cut off"),
        ({"counts": "11", "size": [1e3, 1e3]}, "the size [1000.0, 1000.0]"),
    ],
)
def test_what_is_no_segmentation_is_named(segmentation: Any, problem: str) -> None:
    outline = outline_of(segmentation)
    assert outline.box is None
    assert problem in outline.problem
