"""Batches depend on seed, epoch and image id alone, and an epoch can be entered anywhere."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.augmentation import Augmentation
from rfdetr_hwd.data.batch import BadImage, Batch
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.loader import EvalLoader, Partition, TrainLoader, TrainOrder, multi_scale_resolutions
from rfdetr_hwd.data.quarantine import Quarantine, probe_images
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.workers import WorkerPool, Workers
from rfdetr_hwd.errors import Interrupted

WHOLE = Partition()
NUM_IMAGES, BATCH_SIZE = 24, 7  # three steps of 7, one of 3
AUGMENTATION = Augmentation(3, AugmentSection(min_crop=0.5))


@pytest.fixture
def data(shapes_root: Path) -> DetectionData:
    return read_split(find_layout(shapes_root).split("train"))


def loader(
    data: DetectionData,
    workers: int = 0,
    partition: Partition = WHOLE,
    on_bad_image: str = "fail",
    report: Callable[[BadImage], None] = print,
    last_batch: str = "keep",
) -> TrainLoader:
    order = TrainOrder(len(data), batch_size=BATCH_SIZE, seed=3, resolutions=[64, 96], last_batch=last_batch)
    dataset = DetectionDataset(data, AUGMENTATION, on_bad_image=on_bad_image)
    return TrainLoader(dataset, order, Workers(workers, 60), partition, report)


def images(batches: list[Batch]) -> dict[int, torch.Tensor]:
    """Return every image by its id."""
    pairs = [
        pair for batch in batches if not batch.is_padding for pair in zip(batch.image_ids, batch.images, strict=True)
    ]
    assert len({image_id for image_id, _ in pairs}) == len(pairs)
    return dict(pairs)


def test_each_image_comes_once_in_another_order_each_epoch(data: DetectionData) -> None:
    orders = [[i for batch in loader(data).epoch(epoch) for i in batch.image_ids] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(NUM_IMAGES))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize(("workers", "last_batch"), [(0, "keep"), (2, "keep"), (2, "fill")])
def test_an_epoch_can_be_entered_at_any_update(data: DetectionData, first: int, workers: int, last_batch: str) -> None:
    whole = list(loader(data, last_batch=last_batch).epoch(1))
    rest = list(loader(data, workers=workers, last_batch=last_batch).epoch(1, first))
    assert len(rest) == 4 - first
    for expected, batch in zip(whole[first:], rest, strict=True):
        assert batch.image_ids == expected.image_ids
        assert torch.equal(batch.images, expected.images)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_cuts_and_ranks_do_not_change_the_images(data: DetectionData, world_size: int, micro_batch: int | None) -> None:
    whole = list(loader(data).epoch(0))
    shares = [list(loader(data, partition=Partition(rank, world_size)).epoch(0)) for rank in range(world_size)]
    for index, expected in enumerate(whole):
        step = [share[index] for share in shares]
        together = images([part for share in step for part in share.split(micro_batch or BATCH_SIZE)])
        assert together.keys() == images([expected]).keys()
        assert all(torch.equal(together[i], image) for i, image in images([expected]).items())


def keys(num_images: int, batch_size: int, last_batch: str, epoch: int = 0) -> list[list[tuple[int, int]]]:
    """Return (image, visits before) of each step."""
    order = TrainOrder(num_images, batch_size, seed=3, resolutions=[64], last_batch=last_batch)
    updates = order.steps(epoch)
    assert len(updates) == order.steps_per_epoch
    return [[(key.row, key.visit) for key in update] for update in updates]


@pytest.mark.parametrize(("num_images", "batch_size"), [(24, 7), (22, 7), (27, 7), (21, 7), (8, 7), (7, 7), (16, 1)])
def test_the_last_batch_is_kept_dropped_or_filled(num_images: int, batch_size: int) -> None:
    """With equal steps but for the last: what fills it are images of earlier batches, none of them twice."""
    kept, dropped, filled = (keys(num_images, batch_size, last_batch) for last_batch in ("keep", "drop", "fill"))
    whole, left = divmod(num_images, batch_size)
    assert kept[:whole] == dropped == filled[:whole]
    assert sorted(pair for update in kept for pair in update) == [(row, 0) for row in range(num_images)]
    assert [len(update) for update in kept] == [batch_size] * whole + [left] * (left > 0)
    assert [len(update) for update in filled] == [batch_size] * (whole + (left > 0))
    if left:
        assert filled[-1][:left] == kept[-1]
        assert len({row for row, _ in filled[-1]}) == batch_size
        assert {visit for _, visit in filled[-1][left:]} == {1}


def test_what_is_dropped_and_what_fills_is_drawn_by_seed_and_epoch() -> None:
    dropped = [set(range(24)) - {row for u in keys(24, 7, "drop", epoch) for row, _ in u} for epoch in range(8)]
    assert {len(rows) for rows in dropped} == {3}
    assert len(set.union(*dropped)) > 12
    fills = [keys(24, 7, "fill", epoch)[-1][3:] for epoch in range(8)]
    assert fills == [keys(24, 7, "fill", epoch)[-1][3:] for epoch in range(8)]
    assert len({row for fill in fills for row, _ in fill}) > 12


@pytest.mark.parametrize(("num_images", "batch_size"), [(3, 8), (1, 4), (5, 9), (4, 8)])
def test_a_split_smaller_than_a_batch_fills_it(num_images: int, batch_size: int) -> None:
    """Each image as often as the others, or once more, and each time augmented otherwise."""
    (update,) = keys(num_images, batch_size, "fill")
    assert len(update) == len(set(update)) == batch_size
    counts = np.bincount([row for row, _ in update], minlength=num_images)
    assert counts.max() - counts.min() == (batch_size % num_images > 0)
    for row, count in enumerate(counts):
        assert sorted(visit for other, visit in update if other == row) == list(range(count))
    assert keys(num_images, batch_size, "drop") == []


def test_an_image_that_comes_again_is_augmented_otherwise(data: DetectionData) -> None:
    dataset = DetectionDataset(data, Augmentation(3, AugmentSection(flip=0.0, crop=1.0, min_crop=0.5)))
    first, same, again = (dataset[SampleKey(4, 1, 64, visit=visit)].images for visit in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, again)


@pytest.mark.parametrize("last_batch", ["drop", "fill"])
def test_ranks_have_equal_shares_of_whole_batches(data: DetectionData, last_batch: str) -> None:
    parts = [list(loader(data, partition=Partition(rank, 7), last_batch=last_batch).epoch(0)) for rank in range(7)]
    assert {(len(batch.image_ids), batch.is_padding) for part in parts for batch in part} == {(1, False)}
    assert {len(part) for part in parts} == {4 if last_batch == "fill" else 3}


def test_a_rank_without_an_image_keeps_in_step(data: DetectionData) -> None:
    parts = [list(loader(data, partition=Partition(rank, 4)).epoch(0)) for rank in range(4)]
    assert [part[-1].is_padding for part in parts] == [False, False, False, True]
    assert not any(batch.is_padding for part in parts for batch in part[:-1])


def test_the_scale_changes_from_update_to_update(data: DetectionData) -> None:
    sides = {batch.images.shape[-1] for epoch in range(4) for batch in loader(data).epoch(epoch)}
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
        for batch in EvalLoader(DetectionDataset(data), 64, 3, Workers(0, 60), Partition(rank, world_size), print):
            assert batch.images.shape[1:] == (3, 64, 64)
            assert batch.sizes.tolist() == [[[80, 96], [80, 96]]] * len(batch.image_ids)
            seen += batch.image_ids
    assert sorted(seen) == list(range(NUM_IMAGES))


@pytest.fixture
def broken(shapes_root: Path, tmp_path: Path) -> DetectionData:
    """The data with one image cut off."""
    shutil.copytree(shapes_root, tmp_path / "data")
    data = read_split(find_layout(tmp_path / "data").split("train"))
    path = data.path(2)
    path.write_bytes(path.read_bytes()[:900])
    return data


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(broken: DetectionData, workers: int) -> None:
    with pytest.raises(DatasetError, match=f"image 2 of train: cannot decode .*{broken.path(2).name}"):
        list(loader(broken, workers=workers).epoch(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_replaced_by_the_same_one_each_time(
    data: DetectionData, broken: DetectionData, workers: int
) -> None:
    found: list[BadImage] = []
    whole = list(loader(data).epoch(1))
    first = list(loader(broken, on_bad_image="quarantine", report=found.append).epoch(1))
    again = loader(broken, workers=workers, on_bad_image="quarantine").epoch(1)
    flat = [(i, image) for batch in again for i, image in zip(batch.image_ids, batch.images, strict=True)]
    assert [(bad.image_id, bad.path) for bad in found] == [(2, str(broken.path(2)))]
    expected = [i for batch in whole for i in batch.image_ids]
    ids = [i for batch in first for i in batch.image_ids]
    place = expected.index(2)
    assert ids[place] != 2
    assert ids[:place] + ids[place + 1 :] == expected[:place] + expected[place + 1 :]
    assert [i for i, _ in flat] == ids
    for (_, image), other in zip(flat, (image for batch in first for image in batch.images), strict=True):
        assert torch.equal(image, other)


def test_an_unreadable_image_is_skipped_of_an_evaluation(broken: DetectionData) -> None:
    found: list[BadImage] = []
    dataset = DetectionDataset(broken, on_bad_image="quarantine")
    batches = list(EvalLoader(dataset, 64, 1, Workers(0, 60), WHOLE, found.append))
    assert [i for batch in batches for i in batch.image_ids] == [i for i in range(NUM_IMAGES) if i != 2]
    assert [bad.image_id for bad in found] == [2]


def test_bad_images_are_listed_once_and_too_many_are_an_error(broken: DetectionData, tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    bad = BadImage(2, "x.jpg", "cut off")
    for _ in range(2):  # a second start of the run
        quarantine = Quarantine(path, 20)
        quarantine(bad)
        quarantine(bad)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"image_id": 2, "path": "x.jpg", "reason": "cut off"}
    ]
    with pytest.raises(DatasetError, match="2 of 20 images cannot be read, more than 5%"):
        quarantine(BadImage(3, "y.jpg", "no image"))


def test_the_lists_of_all_ranks_count(tmp_path: Path) -> None:
    mine, other = (Quarantine(tmp_path / f"quarantine{end}.jsonl", 20) for end in ("", "-rank1"))
    mine(BadImage(2, "x.jpg", "cut off"))
    other(BadImage(2, "x.jpg", "cut off"))
    assert not other.path.exists()
    with pytest.raises(DatasetError, match="2 of 20 images cannot be read"):
        other(BadImage(3, "y.jpg", "cut off"))


def test_a_list_that_a_killed_process_tore_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    path.write_text(json.dumps({"image_id": 2, "path": "x", "reason": ""}) + '\n{"image_id": 3, "pa')
    Quarantine(path, 1000)(BadImage(4, "y", ""))
    other = Quarantine(path, 1000)
    other(BadImage(4, "y", ""))
    assert other.seen == {2, 4}


def test_broken_images_are_found_before_training(broken: DetectionData) -> None:
    (found,) = probe_images(broken, seed=0)
    assert (found.image_id, found.path) == (2, str(broken.path(2)))
    broken.path(3).unlink()
    with pytest.raises(DatasetError, match=r"2 of 24 images cannot be read, more than 5%: .*train_00002"):
        probe_images(broken, seed=0)


class Faulty(DetectionDataset):
    """Misbehaves at one image."""

    def __init__(self, data: DetectionData, fault: Callable[[], None]) -> None:
        super().__init__(data, on_bad_image="quarantine")
        self.fault = fault

    def _load(self, row: int, key: SampleKey, bad: list[BadImage]) -> Batch:
        if row == 5:
            self.fault()
        return super()._load(row, key, bad)


def test_a_wait_for_a_batch_can_be_ended(data: DetectionData) -> None:
    """By whoever is asked to stop, between two looks at the data loader workers."""
    calls = 0

    def look() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Interrupted(143)

    batches = [[SampleKey(5, 0, 64)]]
    with pytest.raises(Interrupted):
        list(WorkerPool(Faulty(data, lambda: time.sleep(60)), Workers(2, 60, look)).serve(batches))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise KeyError("of a defect")


def hang() -> None:
    signal.pause()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (die, r"a data loader worker ended: .*. It was reading image 5 of train \(.*train_00005.jpg\)"),
        (fail, r"image 5 of train: KeyError\('of a defect'\)"),
        (hang, r"returned no batch for 3 seconds \(data.worker_timeout\).* image 5 of train \(.*train_00005.jpg\)"),
    ],
)
def test_a_faulty_loader_process_is_an_error_that_names_the_image(
    data: DetectionData, fault: Callable[[], None], message: str
) -> None:
    batches = [[SampleKey(row, 0, 64)] for row in range(8)]
    with pytest.raises(DatasetError, match=message):
        list(WorkerPool(Faulty(data, fault), Workers(2, 3)).serve(batches))


def test_multi_scale_range_is_upstreams() -> None:
    from rfdetr.datasets.coco import compute_multi_scale_scales

    for resolution, patch_size, windows in ((384, 16, 2), (704, 16, 2), (560, 14, 4), (128, 16, 2)):
        expected = compute_multi_scale_scales(resolution, True, patch_size, windows)
        assert multi_scale_resolutions(resolution, patch_size * windows) == expected
