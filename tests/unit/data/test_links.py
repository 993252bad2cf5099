"""Directories of a dataset may be links to another disk, in each layout; circles of links are no end."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rfdetr_hwd.curation.convert import convert
from rfdetr_hwd.data.account import unlisted_images
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.formats import Target
from rfdetr_hwd.data.listing import FileList, find_homes
from rfdetr_hwd.data.read import scan_counted, scan_split
from tests.unit.data.test_exif import write

LAYOUTS = {
    "coco": ["images"],
    "roboflow": ["train"],
    "yolo": ["train"],
    "yolo, links in the split": ["train/images"],
    "yolo, both kinds": ["train/images", "train/labels"],
    "yolo by kind": ["images", "labels"],
    "yolo by split": ["images/train"],
    "voc": ["JPEGImages", "Annotations"],
}


def write_layout(root: Path, layout: str) -> Path:
    write(root, {"roboflow": "coco"}.get(layout, re.split("[ ,]", layout)[0]), False, (1, 2))
    if layout == "coco":
        (root / "train").rename(root / "images")
        (root / "annotations").mkdir()
        (root / "images" / "_annotations.coco.json").rename(root / "annotations" / "instances_train.json")
    if layout.startswith("yolo by"):
        for kind in ("images", "labels"):
            (root / kind).mkdir()
            (root / "train" / kind).rename(root / kind / "train")
        (root / "data.yaml").write_text("names: [x]\ntrain: images/train\n")
    return root


def move_away(root: Path, *directories: str) -> None:
    """Move directories of a dataset to another place, and leave links to them."""
    for directory in directories:
        target = root.parent / "disk" / directory.replace("/", "-")
        target.parent.mkdir(exist_ok=True)
        shutil.move(root / directory, target)
        os.symlink(target, root / directory)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_directories_may_be_links_to_another_disk(tmp_path: Path, layout: str, to: Target) -> None:
    root = write_layout(tmp_path / "root", layout)
    before = scan_split(find_layout(root).split("train"), Findings())
    convert(find_layout(root), to, tmp_path / "before")
    move_away(root, *LAYOUTS[layout])
    os.symlink(root, tmp_path / "link")
    for place in (root, tmp_path / "link"):
        findings = Findings()
        data, account = scan_counted(find_layout(place).split("train"), findings)
        assert data.fingerprint == before.fingerprint
        assert findings.counts == {}
        assert [data.read(row).size for row in range(len(data))] == [(24, 16)] * 2
        assert list(unlisted_images(place, [(data, account)])) == []
        result = convert(find_layout(place), to, tmp_path / f"from {place.name}")
        assert [(split.images, split.objects) for split in result.written] == [(2, 2)]
        written = FileList.scan(tmp_path / f"from {place.name}").names
        assert written == FileList.scan(tmp_path / "before").names


@pytest.mark.parametrize("links", [("train2017", "val2017"), ("train/images", "valid/images")])
def test_two_splits_may_share_a_directory_of_images(tmp_path: Path, links: tuple[str, str]) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.png").touch()
    for name in links:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(tmp_path / "disk", tmp_path / "root" / name)
    assert FileList.scan(tmp_path / "root").names == {f"{name}/a.png" for name in links}


@pytest.mark.parametrize("link", ["train/other", "cats/images", "deep/train/images"])
def test_links_further_down_are_not_followed(tmp_path: Path, link: str) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.png").touch()
    (tmp_path / "root" / link).parent.mkdir(parents=True)
    os.symlink(tmp_path / "disk", tmp_path / "root" / link)
    files = FileList.scan(tmp_path / "root")
    assert (files.names, files.escaping) == (set(), {f"{link}/"})


def test_links_to_files_elsewhere_are_refused_with_what_to_do(tmp_path: Path) -> None:
    root = write_layout(tmp_path / "root", "roboflow")
    (tmp_path / "disk").mkdir()
    for image in list((root / "train").glob("*.png")):
        shutil.move(image, tmp_path / "disk" / image.name)
        os.symlink(tmp_path / "disk" / image.name, image)
    with pytest.raises(DatasetError, match="is a link out of .*: copy the dataset with `cp -rL DATASET COPY`"):
        scan_split(find_layout(root).split("train"), Findings())
    shutil.move(root / "train" / "_annotations.coco.json", tmp_path / "disk" / "a.json")
    os.symlink(tmp_path / "disk" / "a.json", root / "train" / "_annotations.coco.json")
    with pytest.raises(DatasetError, match="_annotations.coco.json; copy the dataset with `cp -rL DATASET COPY`"):
        find_layout(root)
    subprocess.run(["cp", "-rL", root, tmp_path / "copy"], check=True)
    assert len(scan_split(find_layout(tmp_path / "copy").split("train"), Findings())) == 2


def test_circles_of_links_are_no_end_and_no_way_out(tmp_path: Path) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    for directory in (root, disk / "sub", root / "images", tmp_path / "secret"):
        directory.mkdir(parents=True)
        (directory / "a.png").touch()
    for place, target in (
        (root / "linked", disk),
        (root / "up", tmp_path),  # holds the dataset
        (root / "all", Path("/")),
        (root / "self", root),
        (root / "images" / "self", root / "images"),
        (disk / "back", root),
        (disk / "self", disk),
        (disk / "sub" / "out", tmp_path / "secret"),
        (root / "one", root / "other"),  # each leads to the other
        (root / "other", root / "one"),
        (root / "images" / "secret.png", tmp_path / "secret" / "a.png"),
    ):
        os.symlink(target, place)
    files = FileList.scan(root)
    own = {"a.png", "images/a.png", "linked/sub/a.png"}
    assert own <= files.names
    assert {name for name in files.names if "/self/" not in f"/{name}"} == own
    assert len(files.names) < 10
    assert {"up/", "all/", "linked/sub/out/", "images/secret.png"} <= files.escaping
    assert find_homes(root)[:1] == [root.resolve()]
    assert set(find_homes(root)) == {root.resolve(), disk.resolve(), (root / "images").resolve()}
