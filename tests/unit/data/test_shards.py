"""Shards packed by upstream give what the folder gives that they were packed from."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.read import read_split
from tests.unit.data.coco_files import scan_split


@pytest.fixture
def packed(shapes_root: Path, tmp_path: Path) -> Path:
    from rfdetr.datasets.webdataset.pack import pack_coco_to_shards

    folder = shapes_root / "train"
    pack_coco_to_shards(folder, folder / "_annotations.coco.json", tmp_path, split="train", max_shard_bytes=20_000)
    return tmp_path


def test_shards_equal_the_folder(packed: Path, shapes_root: Path) -> None:
    layout = find_layout(packed)
    assert layout.format == "webdataset"
    shards = read_split(layout.split("train"))
    folder = read_split(find_layout(shapes_root).split("train"))
    assert shards.shards is not None
    assert len(shards.shards.paths) > 2
    assert shards.class_names == folder.class_names
    for name in ("image_ids", "sizes", "offsets", "boxes_xywh", "labels", "areas"):
        np.testing.assert_array_equal(getattr(shards, name), getattr(folder, name))
    for index in (0, 7, len(folder) - 1):
        samples = [DetectionDataset(data)[SampleKey(index, 0, 64)] for data in (shards, folder)]
        assert torch.equal(samples[0].images, samples[1].images)


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def test_broken_samples_are_named(packed: Path) -> None:
    shard = json.loads((packed / "train-index.json").read_text())["shards"][0]
    with tarfile.open(packed / shard, "w") as tar:
        add(tar, "1.jpg", b"no image")
        add(tar, "1.json", b'{"image_id": 1, "annotations": []}')
        add(tar, "2.json", b'{"image_id": 2, "annotations": []}')
        add(tar, "3.jpg", b"")
        add(tar, "3.json", b"{")
        add(tar, "4.jpg", b"")
        add(tar, "4.json", b'{"image_id": "4", "annotations": 3}')
    data, findings = scan_split(find_layout(packed).split("train"))
    assert findings.counts["unreadable_image"] == 1
    assert findings.counts["bad_image"] == 3
    assert f"{shard}: sample '2': needs an image and a .json" in str(findings.examples["bad_image"][0])
    assert len(data) > 0


def test_the_objects_of_a_sample_that_is_listed_twice_stay_off_the_first(packed: Path) -> None:
    index = json.loads((packed / "train-index.json").read_text())
    before = read_split(find_layout(packed).split("train"))
    (packed / "train-index.json").write_text(json.dumps({**index, "shards": [*index["shards"], index["shards"][0]]}))
    after = read_split(find_layout(packed).split("train"), ["duplicate_image"])
    np.testing.assert_array_equal(before.boxes_xywh, after.boxes_xywh)


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        (["none.tar"], "no file 'none.tar'"),
        (["../out.tar"], "leaves the image directory"),
        ([3], "is named 3"),
        ([], "'shards' and 'categories' must be lists"),
        (["broken.tar"], "cannot read the shard"),
    ],
)
def test_a_broken_index_is_refused(packed: Path, shards: list[object], message: str) -> None:
    (packed / "broken.tar").write_bytes(b"x" * 2000)
    index = json.loads((packed / "train-index.json").read_text())
    (packed / "train-index.json").write_text(json.dumps({**index, "shards": shards}))
    with pytest.raises(DatasetError) as caught:
        read_split(find_layout(packed).split("train"))
    assert message in str(caught.value)
