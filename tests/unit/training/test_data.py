"""How a run's images are served."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.training import data as training_data
from tests.unit.training.stand_ins import make_config


@pytest.mark.parametrize(("world_size", "share"), [(1, 7), (2, 4), (3, 3)])
def test_what_is_handed_over_at_once_is_a_ranks_share_of_a_step(
    shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world_size: int, share: int
) -> None:
    """Whatever the micro-batch: the room in shared memory is compared with what the loader serves."""
    monkeypatch.setattr(training_data.distributed, "world_size", lambda: world_size)
    config = make_config("train.batch_size=7", "train.micro_batch=2", "train.multi_scale=false", "data.workers=0")
    model = SimpleNamespace(stock=SimpleNamespace(resolution=64, resolution_step=32), resize="stretch")
    data = read_split(find_layout(shapes_root).split("train"))
    loader = training_data.build_train_loader(config, model, data, tmp_path / "quarantine.jsonl", lambda: None)
    first = next(loader.epoch(0))
    assert len(first.image_ids) == share
    assert loader.largest_batch == first.images.nbytes
