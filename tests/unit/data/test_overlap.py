"""Validation images that are training images are counted, whatever links them."""

import os
import shutil
from pathlib import Path

import pytest

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.overlap import count_shared
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.training.limits import say_overlap


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
def test_shared_images_are_said(root: Path, capsys: pytest.CaptureFixture[str], val: str, num_shared: int) -> None:
    say_overlap(read(root, "train"), read(root, "val", val))
    images = f"all {num_shared} validation images are also training images"
    shared = f"{val}: {images}. AP on them says nothing about new images\n"
    assert capsys.readouterr().out == (shared if num_shared else "")
