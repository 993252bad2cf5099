"""The same data loader workers serve all epochs; those that are lost are replaced."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.augmentation import Augmentation
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.data.corruptions import Corruption
from rfdetr_hwd.data.dataset import DetectionDataset
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.loader import EvalLoader, Partition, TrainLoader, TrainOrder
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.workers import Workers


@pytest.fixture
def data(shapes_root: Path) -> DetectionData:
    return read_split(find_layout(shapes_root).split("train"))


def build_loader(data: DetectionData, workers: int) -> TrainLoader:
    dataset = DetectionDataset(data, Augmentation(3, AugmentSection(min_crop=0.5)))
    return TrainLoader(dataset, TrainOrder(len(data), 5, 3, [64, 96]), Workers(workers, 60), Partition(), print)


def test_prefetching_is_said() -> None:
    assert Workers(0, 60).describe() == "data.workers=0, images are loaded between the steps"
    assert Workers(3, 60).describe() == "data.workers=3, 6 batches prefetched"


def process_ids() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()}


def check_same(batches: list[Batch], others: list[Batch]) -> None:
    for batch, other in zip(batches, others, strict=True):
        assert batch.image_ids == other.image_ids
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.packed.boxes, other.packed.boxes)


def test_the_same_workers_serve_all_epochs(data: DetectionData) -> None:
    """From any step on, in any order, and until the loader is let go."""
    before, loader, alone = process_ids(), build_loader(data, 2), build_loader(data, 0)
    list(loader.epoch(0))
    workers = process_ids() - before
    assert len(workers) == 2
    for epoch, first_step in ((1, 0), (3, 2), (0, 4)):
        check_same(list(loader.epoch(epoch, first_step)), list(alone.epoch(epoch, first_step)))
        assert process_ids() - before == workers
    del loader
    assert process_ids() == before


def test_an_epoch_that_is_left_in_its_middle_does_not_disturb_the_next(data: DetectionData) -> None:
    loader = build_loader(data, 2)
    for _ in range(3):
        next(loader.epoch(0))
    check_same(list(loader.epoch(1)), list(build_loader(data, 0).epoch(1)))


def test_workers_that_are_lost_between_two_epochs_are_replaced(
    data: DetectionData, caplog: pytest.LogCaptureFixture
) -> None:
    before, loader = process_ids(), build_loader(data, 2)
    list(loader.epoch(0))
    assert not caplog.records
    lost, left = sorted(filter(None, process_ids() - before))
    os.kill(lost, signal.SIGKILL)
    check_same(list(loader.epoch(1)), list(build_loader(data, 0).epoch(1)))
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "data loader workers do not answer and are replaced"
    ]
    workers = process_ids() - before
    assert len(workers) == 2
    assert not workers & {lost, left}


def test_corrupted_images_come_from_the_same_workers(data: DetectionData) -> None:
    before = process_ids()
    loader = EvalLoader(DetectionDataset(data), 64, 5, Workers(2, 60), Partition(), print)
    clean, workers = list(loader), process_ids() - before
    corrupted = list(loader.corrupted(Corruption("contrast", 5)))
    assert process_ids() - before == workers
    check_same(list(loader), clean)
    assert [batch.image_ids for batch in corrupted] == [batch.image_ids for batch in clean]
    assert not any(torch.equal(one.images, other.images) for one, other in zip(clean, corrupted, strict=True))
