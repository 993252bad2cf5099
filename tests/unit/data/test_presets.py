"""Each preset: boxes stay valid, a sample depends on seed, epoch and image id alone, an epoch resumes anywhere."""

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.config.augmentation import PRESETS, AugmentSection
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.augmentation import Augmentation, augment
from rfdetr_hwd.data.batch import Batch, Failure
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.loader import Partition, TrainLoader, TrainOrder
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.scene import Scene
from rfdetr_hwd.data.workers import Workers

ALL_ON = {name: 1.0 for name in ("scale", "rotate", "colour", "turn", "vertical_flip", "mosaic", "mixup")}


@pytest.fixture
def data(shapes_root: Path) -> DetectionData:
    return read_split(find_layout(shapes_root).split("train"))


def dataset(
    data: DetectionData, mixed_epochs: int = 5, on_bad_image: str = "fail", **parts: object
) -> DetectionDataset:
    """Return the images, augmented by a preset or by parts."""
    section = AugmentSection.model_validate(parts)
    return DetectionDataset(data, Augmentation(3, section, mixed_epochs), on_bad_image=on_bad_image)


def check_same(ours: Batch | Failure, theirs: Batch | Failure) -> None:
    assert isinstance(ours, Batch)
    assert isinstance(theirs, Batch)
    assert ours.image_ids == theirs.image_ids
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.packed.boxes, theirs.packed.boxes)
    assert torch.equal(ours.packed.labels, theirs.packed.labels)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_epoch_can_be_entered_at_any_step(data: DetectionData, preset: str) -> None:
    """By other data loader workers and on other ranks, too: a mosaic has the same partners."""

    def loader(workers: int, rank: int = 0, world_size: int = 1) -> TrainLoader:
        order = TrainOrder(len(data), batch_size=7, seed=3, resolutions=[64, 96])
        images = dataset(data, preset=preset)
        return TrainLoader(images, order, Workers(workers, 60), Partition(rank, world_size), print)

    whole = list(loader(0).epoch(1))
    for expected, batch in zip(whole[2:], loader(2).epoch(1, 2), strict=True):
        check_same(batch, expected)
    ranks = [list(loader(0, rank, 2).epoch(1)) for rank in range(2)]
    for step, expected in enumerate(whole):
        for rank in range(2):
            assert torch.equal(ranks[rank][step].images, expected.images[rank::2])


@pytest.mark.parametrize("preset", PRESETS)
def test_a_sample_depends_on_seed_epoch_and_image_alone(data: DetectionData, preset: str) -> None:
    keys = [SampleKey(row, epoch, 64) for row, epoch in ((4, 0), (11, 1), (4, 1), (7, 0))]
    images = dataset(data, preset=preset)
    first = [images[key] for key in keys]
    again = dataset(data, preset=preset)
    for key, expected in reversed(list(zip(keys, first, strict=True))):
        check_same(again[key], expected)
    assert isinstance(first[0], Batch)
    assert isinstance(first[2], Batch)
    assert torch.equal(first[0].images, first[2].images) == (preset == "none")


def test_without_augmentation_an_image_is_the_evaluated_one(data: DetectionData) -> None:
    for row in (0, 5):
        check_same(dataset(data, preset="none")[SampleKey(row, 3, 64)], DetectionDataset(data)[SampleKey(row, 3, 64)])


def test_the_last_epochs_have_neither_mosaic_nor_mixup(data: DetectionData) -> None:
    mixed, single = dataset(data, 2, **ALL_ON), dataset(data, 2, **{**ALL_ON, "mosaic": 0.0, "mixup": 0.0})
    check_same(mixed[SampleKey(4, 2, 64)], single[SampleKey(4, 2, 64)])
    before, without = mixed[SampleKey(4, 1, 64)], single[SampleKey(4, 1, 64)]
    assert isinstance(before, Batch)
    assert isinstance(without, Batch)
    assert not torch.equal(before.images, without.images)
    assert Augmentation.of_run(AugmentSection(preset="strong"), 0, 24).mixed_epochs == 14


def test_a_partner_that_cannot_be_read_is_replaced_or_named(data: DetectionData, tmp_path: Path) -> None:
    """All images but one are broken: a mosaic is of that one, and each of the others is listed."""
    broken = read_split(find_layout(Path(shutil.copytree(data.images.parent, tmp_path / "all"))).split("train"))
    for row in range(len(broken)):
        if row not in (2, 3):
            broken.path(row).write_bytes(b"no image")
    found = dataset(broken, on_bad_image="quarantine", **ALL_ON)[SampleKey(2, 0, 64)]
    assert isinstance(found, Batch)
    assert found.image_ids == (2,)
    assert found.bad
    assert {2, 3}.isdisjoint(bad.image_id for bad in found.bad)
    failure = dataset(broken, **ALL_ON)[SampleKey(2, 0, 64)]
    assert isinstance(failure, Failure)
    assert "image 2 of train: " in failure.reason
    assert "cannot" in failure.reason


@given(
    seed=st.integers(0, 2**40),
    preset=st.sampled_from([*PRESETS]),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    corners=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=5),
    is_all_on=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_boxes_lie_in_the_image(
    seed: int,
    preset: str,
    size: tuple[int, int],
    corners: list[tuple[float, float, float, float]],
    is_all_on: bool,
) -> None:
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pairs = torch.tensor(corners).reshape(-1, 2, 2).sort(dim=1).values
    boxes = pairs.reshape(-1, 4) * torch.tensor([width, height, width, height])
    scene = Scene(PIL.Image.fromarray(pixels), boxes, torch.arange(len(corners)))

    def partner(number: int) -> Scene:
        return Scene(PIL.Image.new("RGB", (40, 20 + number)), torch.tensor([[0.0, 0, 40, 20]]), torch.tensor([9]))

    parts = AugmentSection.model_validate({"preset": preset, **(ALL_ON if is_all_on else {})})
    found = augment(scene, parts, (seed, 1), partner)
    again = augment(scene, parts, (seed, 1), partner)
    x0, y0, x1, y1 = found.boxes_xyxy.unbind(1)
    assert bool((x0 >= 0).all() & (y0 >= 0).all())
    assert bool((x1 <= found.image.width).all() & (y1 <= found.image.height).all())
    assert bool((x1 - x0 >= 1).all() & (y1 - y0 >= 1).all())
    assert len(found.labels) == len(found.boxes_xyxy)
    assert set(found.labels.tolist()) <= {*range(len(corners)), 9}
    assert found.image.tobytes() == again.image.tobytes()
    assert torch.equal(found.boxes_xyxy, again.boxes_xyxy)
