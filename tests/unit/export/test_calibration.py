"""Calibration images are the same for the same seed, readable, without augmentation, in whole batches."""

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from rfdetr_hwd.data.images import ImageError
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export.calibration import read_calibration

DETECTOR: Any = SimpleNamespace(resolution=4, model=SimpleNamespace(resize="stretch"))


class Split:
    """Images of one colour, of which some cannot be read."""

    name, images = "train", Path("data/train")

    def __init__(self, number: int, bad: frozenset[int] = frozenset()) -> None:
        self.number, self.bad = number, bad

    def __len__(self) -> int:
        return self.number

    def read(self, row: int) -> PIL.Image.Image:
        if row in self.bad:
            raise ImageError(f"{row}.jpg cannot be decoded")
        return PIL.Image.new("RGB", (6, 5), (row, row, row))


def rows_of(split: Any, wanted: int, seed: int = 0) -> list[int]:
    return read_calibration(DETECTOR, split, wanted, seed).images.images[:, 0, 0, 0].tolist()


def test_the_seed_decides_and_more_images_extend_fewer() -> None:
    few, more, other = rows_of(Split(50), 5), rows_of(Split(50), 9), rows_of(Split(50), 9, seed=1)
    assert len(set(more)) == 9
    assert more[:5] == few
    assert more == rows_of(Split(50), 9)
    assert set(more) != set(other)
    assert sorted(rows_of(Split(3), 8)) == [0, 1, 2]


def test_an_unreadable_image_is_replaced_by_the_next(caplog: pytest.LogCaptureFixture) -> None:
    without, first = rows_of(Split(20), 6), rows_of(Split(20), 1)[0]
    with caplog.at_level(logging.WARNING):
        assert rows_of(Split(20, frozenset({first})), 5) == without[1:]
    assert caplog.messages == [f"skipped in the calibration: {first}.jpg cannot be decoded"]


@pytest.mark.parametrize("split", [Split(0), Split(2, frozenset({0, 1}))])
def test_no_image_to_calibrate_on(split: Any) -> None:
    with pytest.raises(ConfigError, match=r"the split train of data/train has no images to calibrate on"):
        read_calibration(DETECTOR, split, 8, 0)


@pytest.mark.parametrize(("batch", "expected"), [(1, [[0], [1], [2]]), (2, [[0, 1], [2, 0]]), (4, [[0, 1, 2, 0]])])
def test_every_batch_is_whole_and_normalised(batch: int, expected: list[list[int]]) -> None:
    read = read_calibration(DETECTOR, Split(3), 3, 0)  # type: ignore[arg-type]
    values = read.images.images[:, 0, 0, 0]
    read = replace(read, images=replace(read.images, images=read.images.images[torch.argsort(values)]), batch=batch)
    found = list(read)
    assert len(read) == len(found)
    assert [part.shape for part in found] == [(batch, 3, 4, 4)] * len(expected)
    red = [(np.array(part) / 255 - 0.485) / 0.229 for part in expected]
    for part, values_of in zip(found, red, strict=True):
        np.testing.assert_allclose(part[:, 0, 0, 0], values_of, rtol=1e-5)
    assert [part.tobytes() for part in read] == [part.tobytes() for part in found]  # again, for a second pass
