"""Validation images that are training images are counted, whatever links them."""

import os
import shutil
from pathlib import Path

import pytest

from rfdetr_hwd.commands.caveats import say_caveats
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.overlap import count_shared
from rfdetr_hwd.data.source import find_layout, read_split


@pytest.fixture
def root(shapes_root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes_root, tmp_path / "data"))


def read(root: Path, role: str, name: str | None = None) -> DetectionData:
    return read_split(find_layout(root).split(role, name))


def test_splits_that_share_nothing_and_splits_that_are_one(root: Path) -> None:
    train = read(root, "train")
    assert count_shared(train, read(root, "val")) == 0
    assert count_shared(train, read(root, "val", "train")) == 24


def test_copies_and_links_of_one_name_are_counted_and_other_images_of_that_name_are_not(root: Path) -> None:
    shutil.copytree(root / "train", root / "valid", dirs_exist_ok=True)
    valid = root / "valid"
    for number in (1, 2, 3, 4):
        (valid / f"train_{number:05d}.jpg").unlink()
    os.link(root / "train" / "train_00001.jpg", valid / "train_00001.jpg")
    os.symlink("../train/train_00002.jpg", valid / "train_00002.jpg")
    content = (root / "train" / "train_00003.jpg").read_bytes()
    (valid / "train_00003.jpg").write_bytes(content[:-1] + b"x")  # of the same size
    shutil.copy(root / "train" / "train_00005.jpg", valid / "train_00004.jpg")
    assert count_shared(read(root, "train"), read(root, "val")) == 22


@pytest.mark.parametrize(("val", "num_shared"), [("valid", 0), ("train", 24)])
def test_train_says_what_of_the_data_may_surprise(
    root: Path, capsys: pytest.CaptureFixture[str], val: str, num_shared: int
) -> None:
    train_data, val_data = read(root, "train"), read(root, "val", val)
    most = int(train_data.objects_per_image().max())
    say_caveats(train_data, val_data, num_queries=most)
    shared = f"{val}: all {num_shared} validation images are training images: AP says nothing of new ones\n"
    assert capsys.readouterr().out == (shared if num_shared else "")
    say_caveats(train_data, val_data, num_queries=most - 1)
    beyond = [(data, int((data.objects_per_image() == most).sum())) for data in (train_data, val_data)]
    about = f"have more objects than the model's {most - 1} queries, up to {most}"
    expected = [f"{data.name}: {number} of {len(data)} images {about}" for data, number in beyond if number]
    said = capsys.readouterr().out.splitlines()
    assert len(expected) > 0
    assert [line.partition("; it cannot")[0] for line in said[: len(expected)]] == expected
    assert said[len(expected) :] == shared.splitlines()[: bool(num_shared)]
