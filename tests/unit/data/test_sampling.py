"""Rare classes are drawn as often as their formulas say, and an epoch follows from seed and epoch alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.config.schema import DataSection, TrainSection
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.augmentation import Augmentation
from rfdetr_hwd.data.dataset import DetectionDataset
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.loader import Partition, TrainLoader, TrainOrder
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.sampling import Objects, Sampler, build_sampler, class_balanced, repeat_factors
from rfdetr_hwd.data.workers import Workers
from rfdetr_hwd.errors import ConfigError


def objects(*labels: list[int]) -> Objects:
    """Return the objects of images that have these labels."""
    rows = [row for row, image in enumerate(labels) for _ in image]
    flat = [label for image in labels for label in image]
    return Objects(("a", "b", "c"), len(labels), np.array(rows, np.int64), np.array(flat, np.int64))


@pytest.fixture(scope="module")
def data(shapes_root: Path) -> DetectionData:
    """Of 24 images, 6 have nothing but crowd regions: they are background."""
    split = read_split(find_layout(shapes_root).split("train"))
    return replace(split, crowd=np.isin(np.repeat(np.arange(24), split.objects_per_image()), range(6)))


def sampler(data: DetectionData, batch_size: int = 4, last_batch: str = "fill", **settings: Any) -> Sampler:
    train = TrainSection.model_validate({"batch_size": batch_size, "last_batch": last_batch, "seed": 3})
    found = build_sampler(data, DataSection.model_validate({"root": "x", **settings}), train)
    assert found is not None
    return found


def test_repeat_factors_by_hand() -> None:
    """Of 100 images 90 have class a, 4 have b: sqrt(0.16 / 0.04) = 2, 1 of these also c: sqrt(0.16 / 0.01) = 4."""
    images = [[0, 0]] * 90 + [[1]] * 3 + [[1, 2, 2]] + [[]] * 6
    assert repeat_factors(objects(*images), 0.16).tolist() == pytest.approx([1] * 90 + [2] * 3 + [4] + [1] * 6)
    assert repeat_factors(objects(*images), 0.001).tolist() == [1] * 100


def test_class_balanced_by_hand() -> None:
    """Each of two classes gets half of 5 draws: a shares it among three images, b between two, one image has both."""
    weights = class_balanced(objects([0, 0, 0], [0], [], [1], [0, 1, 1], []))
    assert weights.tolist() == pytest.approx([2 / 3, 2 / 3, 0, 1, 2 / 3 + 1, 0])


@given(
    images=st.lists(st.lists(st.integers(0, 2), max_size=4), min_size=1, max_size=30).filter(any),
    threshold=st.floats(0.001, 1),
)
def test_the_formulas_hold_for_all_images(images: list[list[int]], threshold: float) -> None:
    found = objects(*images)
    factors, weights = repeat_factors(found, threshold), class_balanced(found)
    assert factors.min() >= 1
    assert weights.sum() == pytest.approx(sum(map(bool, images)))
    in_class = np.array([[label in image for label in range(3)] for image in images])
    for label in range(3):
        fraction = in_class[:, label].mean()
        if fraction:
            assert (factors[in_class[:, label]] >= np.sqrt(threshold / fraction) - 1e-9).all()
    assert (weights[~in_class.any(axis=1)] == 0).all()


@pytest.mark.parametrize("method", ["class_balanced", "repeat_factor"])
def test_each_image_comes_as_often_as_expected_in_another_order_each_epoch(data: DetectionData, method: str) -> None:
    found = sampler(data, sampling=method, repeat_threshold=1.0)
    epochs = [found.draw(epoch) for epoch in range(60)]
    counts = np.array([np.bincount(epoch, minlength=24) for epoch in epochs])
    assert {len(epoch) for epoch in epochs} == {found.num_drawn}
    assert found.num_drawn % 4 == 0
    assert (counts >= np.floor(found.expected)).all()
    assert (counts <= np.ceil(found.expected)).all()
    assert np.abs(counts.mean(axis=0) - found.expected).max() < 0.25
    assert epochs[0] == found.draw(0) != epochs[1]
    assert epochs[0] != replace(found, seed=4).draw(0)


def test_balanced_classes_come_as_often(data: DetectionData) -> None:
    """In images with one class each: 18 images of a, 4 of b, 2 of c; a third of the draws for each."""
    labels = [[0]] * 18 + [[1]] * 4 + [[2]] * 2
    found = Sampler(objects(*labels), class_balanced(objects(*labels)), None, 0, "")
    assert [found.count(5)[f"drawn/objects/{name}"] for name in "abc"] == pytest.approx([8, 8, 8], abs=1)


@pytest.mark.parametrize(("fraction", "allowed"), [(0.25, {1}), (0.3, {1, 2}), (0.5, {2}), (0.0, {0}), (0.75, {3})])
def test_each_batch_has_its_share_of_background_images(data: DetectionData, fraction: float, allowed: set[int]) -> None:
    """18 images with objects are as many draws as the rest of the batches: 0.25 adds 6, in whole batches of 4."""
    found = sampler(data, background_fraction=fraction)
    order = TrainOrder(found.num_drawn, 4, 3, [64], "fill", found)
    for epoch in range(3):
        steps = [[key.row for key in step] for step in order.steps(epoch)]
        assert {len(step) for step in steps} == {4}
        assert {sum(row < 6 for row in step) for step in steps} == allowed
        rows = [row for step in steps for row in step]
        assert set(range(6, 24)) <= set(rows)
        assert found.count(epoch)["drawn/background_images"] == sum(row < 6 for row in rows)
    assert found.num_drawn == {0.25: 24, 0.3: 28, 0.5: 36, 0.0: 20, 0.75: 72}[fraction]


@pytest.mark.parametrize(("last_batch", "number"), [("fill", 28), ("drop", 21), ("keep", 24)])
def test_an_epoch_has_whole_batches_unless_the_last_is_kept(data: DetectionData, last_batch: str, number: int) -> None:
    found = sampler(data, 7, last_batch, sampling="class_balanced")
    order = TrainOrder(found.num_drawn, 7, 3, [64], last_batch, found)  # type: ignore[arg-type]
    assert found.num_drawn == number
    sizes = {"fill": [7, 7, 7, 7], "drop": [7, 7, 7], "keep": [7, 7, 7, 3]}
    assert [len(step) for step in order.steps(0)] == sizes[last_batch]
    visits = [(key.row, key.visit) for step in order.steps(0) for key in step]
    assert len(set(visits)) == number
    assert all((row, visit - 1) in visits for row, visit in visits if visit)


def test_an_epoch_can_be_entered_at_any_step_on_any_number_of_ranks(data: DetectionData) -> None:
    found = sampler(data, sampling="repeat_factor", repeat_threshold=1.0, background_fraction=0.25)

    def loader(workers: int = 0, rank: int = 0, world_size: int = 1) -> TrainLoader:
        order = TrainOrder(found.num_drawn, 4, 3, [64, 96], "fill", found)
        images = DetectionDataset(data, Augmentation(3, AugmentSection(preset="standard")))
        return TrainLoader(images, order, Workers(workers, 60), Partition(rank, world_size), print)

    whole = list(loader().epoch(1))
    assert len(whole) == loader().steps_per_epoch == found.num_drawn // 4
    for first, workers in ((1, 0), (4, 2)):
        for expected, batch in zip(whole[first:], loader(workers).epoch(1, first), strict=True):
            assert batch.image_ids == expected.image_ids
            assert torch.equal(batch.images, expected.images)
    for rank in range(2):
        for expected, batch in zip(whole, loader(0, rank, 2).epoch(1), strict=True):
            assert batch.image_ids == expected.image_ids[rank::2]
            assert torch.equal(batch.images, expected.images[rank::2])
    drawn = loader().drawn(1)
    labels = torch.cat([torch.from_numpy(data.objects(i)[1]) for batch in whole for i in batch.image_ids])
    assert [drawn[f"drawn/objects/{name}"] for name in data.class_names] == torch.bincount(labels).tolist()
    assert drawn["drawn/images"] == sum(len(batch.image_ids) for batch in whole)
    assert drawn["drawn/different_images"] == len({i for batch in whole for i in batch.image_ids})


def test_it_says_what_an_epoch_draws(data: DetectionData) -> None:
    text = sampler(data, sampling="repeat_factor", background_fraction=0.25).describe()
    assert text.startswith(
        "data.sampling=repeat_factor, data.repeat_threshold=0.001, data.background_fraction=0.25: an epoch draws 24 "
        "images, 24 different ones of 24. 6 of the draws are images without objects. The objects of a class are drawn "
        f"so often on average: {data.class_names[0]} 1.0, "
    )


def test_every_image_once_needs_no_sampler_and_background_needs_images(data: DetectionData) -> None:
    assert build_sampler(data, DataSection(root="x"), TrainSection()) is None
    full = replace(data, crowd=np.zeros_like(data.crowd))
    with pytest.raises(ConfigError, match=r"background_fraction=0.2: every image of train has objects"):
        sampler(full, background_fraction=0.2)
    assert sampler(full, background_fraction=0.0).num_drawn == 24
