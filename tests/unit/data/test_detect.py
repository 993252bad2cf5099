"""Layouts are recognised, and annotations keep their values."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from rfdetr_hwd.data.annotations import ClassMap, DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.known_layouts import LAYOUTS
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.errors import ConfigError
from tests.unit.data.coco_files import CONTENT, with_image, write_split
from tests.unit.data.pictures import draw


def read(root: Path) -> DetectionData:
    return read_split(find_layout(root).split("train"))


def test_rows_labels_and_boxes(tmp_path: Path) -> None:
    data = read(write_split(tmp_path))
    assert data.class_names == ("dog", "cat")  # by category id; the grouping category 0 is no class
    assert data.category_ids == (3, 7)
    assert data.image_ids.tolist() == [5, 2]
    boxes, labels = data.objects(0)
    assert boxes.tolist() == [[90, 70, 100, 80]]  # clipped; the crowd and the box without area are skipped
    assert labels.tolist() == [0]
    np.testing.assert_allclose(data.objects(1)[0], [[1.1, 2, 11.1, 22.7]], rtol=1e-6)
    assert data.path(1) == tmp_path / "train" / "a.jpg"


def test_ground_truth_keeps_ids_and_values_and_numbers_from_one(tmp_path: Path) -> None:
    truth = read(write_split(tmp_path)).ground_truth()
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3, 4]
    by_image = {a["image_id"]: a for a in truth["annotations"]}
    assert by_image[2]["bbox"] == [1.1, 2, 10, 20.7]
    assert by_image[2]["category_id"] == 7
    assert by_image[2]["area"] == 99
    assert sum(a["iscrowd"] for a in truth["annotations"]) == 1
    assert [a["area"] for a in truth["annotations"] if a["bbox"][0] == 90] == [400]  # a missing area is the box's
    assert [c["id"] for c in truth["categories"]] == [3, 7]


def test_a_category_0_with_boxes_is_a_class(tmp_path: Path) -> None:
    content = json.loads(json.dumps(CONTENT))
    content["annotations"][0]["category_id"] = 0
    assert read(write_split(tmp_path, content)).class_names == ("things", "dog", "cat")


def test_classes_are_found_by_name(tmp_path: Path) -> None:
    data = read(write_split(tmp_path))
    assert data.map_classes(["cat", "dog"]) == ClassMap((7, 3), (), ())
    assert data.map_classes(["dog", "cow"]) == ClassMap((3, None), ("cow",), ("cat",))
    with pytest.raises(
        DatasetError, match=r"The model has 'cow', 'Cat'. The dataset has 'dog', 'cat' \(is it 'Cat'\?\)"
    ):
        data.map_classes(["cow", "Cat"])


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/val.json", "images"),
        ("annotations/val.json", "images/val"),
        ("val.json", "images/val"),
        ("valid.json", "valid"),
    ],
)
def test_coco_folders_are_recognised(tmp_path: Path, annotations: str, images: str) -> None:
    (tmp_path / annotations).parent.mkdir(exist_ok=True)
    (tmp_path / annotations).write_text(json.dumps(CONTENT))
    (tmp_path / images).mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / images / name).touch()
    layout = find_layout(tmp_path)
    assert layout.format == "coco"
    assert layout.split("val").images == tmp_path / images
    assert [split.role for split in layout.splits()] == ["val"]
    assert len(read_split(layout.split("val"))) == 2


def test_what_is_there_and_what_is_recognised_is_said(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / "photos" / f"{number}.jpg", number)
    (tmp_path / "photos" / "0.json").write_text('{"version": "5", "shapes": [], "imagePath": "0.jpg"}')
    with pytest.raises(DatasetError) as caught:
        find_layout(tmp_path)
    message = str(caught.value)
    assert "Found 1 JSON file (photos/0.json), 3 JPEGs in photos." in message
    assert "Annotations in LabelMe's format are not read: convert them with labelme2coco." in message
    for row in LAYOUTS:
        assert row.annotations in message
    (tmp_path / "photos" / "0.json").unlink()
    with pytest.raises(DatasetError, match="images but no annotations: `rfdetr-hwd predict` needs none"):
        find_layout(tmp_path)
    with pytest.raises(DatasetError, match="there is no directory"):
        find_layout(tmp_path / "none")
    with pytest.raises(DatasetError, match="is a file: give its directory"):
        find_layout(draw(tmp_path / "a.jpg", 0))


def test_a_split_under_another_name(tmp_path: Path) -> None:
    write_split(tmp_path, split="fold3")
    assert len(read_split(find_layout(tmp_path).split("val", "fold3"))) == 2
    with pytest.raises(
        DatasetError, match=r"has no val split. It has the splits train \(fold3/_annotations.coco.json\)"
    ):
        read_split(find_layout(tmp_path).split("val"))


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "/etc/passwd", "sub/../../secret.jpg", "link.jpg", "folder/x.jpg", "a\0.jpg"]
)
def test_paths_out_of_the_image_folder_are_refused(tmp_path: Path, name: str) -> None:
    root = write_split(tmp_path / "root", with_image(file_name=name))
    (tmp_path / "secret.jpg").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jpg").touch()
    os.symlink(tmp_path / "secret.jpg", root / "train" / "link.jpg")
    os.symlink(tmp_path / "elsewhere", root / "train" / "folder")
    with pytest.raises(DatasetError, match=r"image 2: .*image directory .*\[unsafe_path\]"):
        read(root)
    with pytest.raises(ConfigError, match="unsafe_path cannot be accepted"):
        read_split(find_layout(root).split("train"), ["unsafe_path"])


@pytest.mark.parametrize("name", ["./sub//c.jpg", "d.jpg", "folder/e.jpg", "circle/circle/a.jpg"])
def test_a_link_within_the_dataset_is_no_escape(tmp_path: Path, name: str) -> None:
    write_split(tmp_path, with_image(file_name=name))
    (tmp_path / "train" / "sub").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "e.jpg").touch()
    os.symlink(tmp_path / "train" / "a.jpg", tmp_path / "train" / "sub" / "c.jpg")
    os.symlink("../real/e.jpg", tmp_path / "train" / "d.jpg")
    os.symlink("../real", tmp_path / "train" / "folder")
    os.symlink(".", tmp_path / "train" / "circle")
    assert read(tmp_path).image_ids.tolist() == [5, 2]


def test_the_fingerprint_covers_the_images_that_are_used(tmp_path: Path) -> None:
    write_split(tmp_path, with_image(file_name="late.jpg"))
    split = find_layout(tmp_path).split("train")
    before = read_split(split, ["missing_file"])
    (tmp_path / "train" / "late.jpg").touch()
    after = read_split(split)
    assert (len(before), len(after)) == (1, 2)
    assert before.fingerprint != after.fingerprint
    assert read_split(split).fingerprint == after.fingerprint
