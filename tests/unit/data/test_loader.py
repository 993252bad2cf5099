"""Batches depend on seed, epoch and image id alone, and an epoch can be entered anywhere."""

from pathlib import Path

import pytest
import torch

from rfdetr_hwd.data.loader import (
    Augmentation,
    Batch,
    DetectionDataset,
    EvalLoader,
    Shard,
    TrainLoader,
    TrainOrder,
    multi_scale_resolutions,
)
from rfdetr_hwd.data.source import DatasetError, DetectionData, find_layout, read_split

WHOLE = Shard()
NUM_IMAGES, BATCH_SIZE = 24, 7  # three updates of 7, one of 3
AUGMENTATION = Augmentation(seed=3, flip=0.5, crop=0.5, min_crop=0.5)


@pytest.fixture
def data(shapes_root: Path) -> DetectionData:
    return read_split(find_layout(shapes_root).split("train"))


def loader(data: DetectionData, micro_batch: int | None = None, workers: int = 0, shard: Shard = WHOLE) -> TrainLoader:
    order = TrainOrder(len(data), batch_size=BATCH_SIZE, seed=3, resolutions=[64, 96])
    return TrainLoader(DetectionDataset(data, AUGMENTATION), order, micro_batch, workers, shard)


def images(updates: list[list[Batch]]) -> dict[int, torch.Tensor]:
    """Return every image by its id."""
    batches = [batch for update in updates for batch in update if batch.is_counted]
    pairs = [pair for batch in batches for pair in zip(batch.image_ids, batch.images, strict=True)]
    assert len({image_id for image_id, _ in pairs}) == len(pairs)
    return dict(pairs)


def test_each_image_comes_once_in_another_order_each_epoch(data: DetectionData) -> None:
    orders = [[i for update in loader(data).epoch(epoch) for b in update for i in b.image_ids] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(NUM_IMAGES))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_be_entered_at_any_update(data: DetectionData, first: int, workers: int) -> None:
    whole = list(loader(data).epoch(1))
    rest = list(loader(data, workers=workers).epoch(1, first))
    assert len(rest) == 4 - first
    for expected, update in zip(whole[first:], rest, strict=True):
        assert [b.image_ids for b in update] == [b.image_ids for b in expected]
        assert all(torch.equal(a.images, b.images) for a, b in zip(update, expected, strict=True))


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_cuts_and_ranks_do_not_change_the_images(data: DetectionData, world_size: int, micro_batch: int | None) -> None:
    whole = list(loader(data).epoch(0))
    parts = [list(loader(data, micro_batch, shard=Shard(rank, world_size)).epoch(0)) for rank in range(world_size)]
    for index, expected in enumerate(whole):
        together = images([part[index] for part in parts])
        assert together.keys() == images([expected]).keys()
        assert all(torch.equal(together[i], image) for i, image in images([expected]).items())


def test_a_rank_without_an_image_keeps_in_step(data: DetectionData) -> None:
    parts = [list(loader(data, shard=Shard(rank, 4)).epoch(0)) for rank in range(4)]
    assert [[b.is_counted for b in part[-1]] for part in parts] == [[True], [True], [True], [False]]


def test_the_scale_changes_from_update_to_update(data: DetectionData) -> None:
    sides = {b.images.shape[-1] for epoch in range(4) for update in loader(data).epoch(epoch) for b in update}
    assert sides == {64, 96}


def test_loading_leaves_the_global_generator_alone(data: DetectionData) -> None:
    before = torch.get_rng_state()
    list(loader(data, workers=2).epoch(0))
    list(loader(data).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_sees_each_image_once_with_its_size(data: DetectionData, world_size: int) -> None:
    seen = []
    for rank in range(world_size):
        for batch in EvalLoader(DetectionDataset(data), 64, 3, 0, Shard(rank, world_size)):
            assert batch.images.shape[1:] == (3, 64, 64)
            assert batch.sizes.tolist() == [[80, 96]] * len(batch.image_ids)
            seen += batch.image_ids
    assert sorted(seen) == list(range(NUM_IMAGES))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(data: DetectionData, workers: int) -> None:
    path = data.path(2)
    content = path.read_bytes()
    try:
        path.write_bytes(content[:100])
        with pytest.raises(DatasetError, match=path.name):
            list(loader(data, workers=workers).epoch(0))
    finally:
        path.write_bytes(content)


def test_multi_scale_range_is_upstreams() -> None:
    from rfdetr.datasets.coco import compute_multi_scale_scales

    for resolution, patch_size, windows in ((384, 16, 2), (704, 16, 2), (560, 14, 4), (128, 16, 2)):
        expected = compute_multi_scale_scales(resolution, True, patch_size, windows)
        assert multi_scale_resolutions(resolution, patch_size * windows) == expected
