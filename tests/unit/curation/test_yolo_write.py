"""A YOLO dataset that is written holds every image and object, under names that every YOLO reader finds."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from rfdetr_hwd.curation.convert import Written, convert
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.read import read_split
from tests.unit.data.pictures import HEIGHT, WIDTH, box_of, draw, num_right
from tests.unit.data.yolo_files import find


def write_coco(root: Path, split: str, names: Sequence[str], classes: Mapping[int, str] = {7: "cat"}) -> Path:
    """Write a split whose pictures show one object each, of the classes in turn."""
    images, objects = [], []
    for number, name in enumerate(names):
        draw(root / split / name, number)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        label = list(classes)[number % len(classes)]
        objects.append({"id": number, "image_id": number, "category_id": label, "bbox": box_of(number), "area": 48})
    categories = [{"id": class_id, "name": name} for class_id, name in classes.items()]
    content = {"images": images, "annotations": objects, "categories": categories}
    (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def to_yolo(root: Path, out: Path) -> list[Written]:
    return convert(find_layout(root), "yolo", out).written


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


NAMES = ["a.jpg", "a.png", "b.jfif", "B.jpg", "d.JPE", "e", "video 1/0001.png", "video 2/0001.png", "f.apng"]
FLAT = ["a.jpg", "a_2.png", "b_2.jpg", "B.jpg", "d.jpg", "e.png", "video 1_0001.png", "video 2_0001.png", "f.png"]


def test_every_image_has_a_name_that_readers_find_and_a_label_file_of_its_own(tmp_path: Path) -> None:
    (split,) = to_yolo(write_coco(tmp_path / "in", "train", NAMES), tmp_path / "out")
    labels = {f"train/labels/{Path(name).with_suffix('.txt')}" for name in FLAT}
    assert files(tmp_path / "out") == {f"train/images/{name}" for name in FLAT} | labels | {"data.yaml"}
    assert (split.images, split.objects, split.skipped) == (9, 9, {})
    assert split.notes == {
        "images renamed: YOLO needs one directory, unique stems and common suffixes": 7,
    }
    data = read_split(find_layout(tmp_path / "out").split("train"))
    assert (len(data), num_right(data)) == (9, 9)


def test_splits_whose_classes_differ_in_order_share_one_list(tmp_path: Path) -> None:
    write_coco(tmp_path / "in", "train", ["a.png", "b.png", "c.png"], {1: "cat", 2: "dog", 3: "ant"})
    write_coco(tmp_path / "in", "valid", ["a.png", "b.png"], {1: "dog", 2: "cat"})
    to_yolo(tmp_path / "in", tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text()) == {
        "train": "train/images",
        "val": "valid/images",
        "nc": 3,
        "names": ["cat", "dog", "ant"],
    }
    labels = [(tmp_path / f"out/valid/labels/{name}.txt").read_text().split()[0] for name in "ab"]
    assert labels == ["1", "0"]


def test_a_class_that_the_first_split_lacks_is_refused(tmp_path: Path) -> None:
    write_coco(tmp_path / "in", "train", ["a.png"], {1: "cat"})
    write_coco(tmp_path / "in", "valid", ["a.png", "b.png"], {1: "cat", 2: "dog"})
    with pytest.raises(DatasetError, match=r"valid has 'dog', which train lacks. The classes of train: 'cat'"):
        to_yolo(tmp_path / "in", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


@pytest.mark.parametrize("names", [["1", "2"], ["yes", "no"], ["null", "~"], ["1.0", "2024-01-01"], ["a: b", "# c"]])
def test_names_that_yaml_would_take_for_something_else_stay_names(tmp_path: Path, names: list[str]) -> None:
    to_yolo(write_coco(tmp_path / "in", "train", ["a.png", "b.png"], dict(enumerate(names, 1))), tmp_path / "out")
    assert yaml.safe_load((tmp_path / "out/data.yaml").read_text())["names"] == names
    assert find(tmp_path / "out").description.classes == tuple(enumerate(names))


def test_background_images_have_an_empty_label_file(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "in", "train", ["a.png", "b.png"]) / "train" / "_annotations.coco.json"
    content: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": content["annotations"][:1]}))
    (split,) = to_yolo(tmp_path / "in", tmp_path / "out")
    assert split.notes == {"images without objects": 1}
    assert (tmp_path / "out/train/labels/b.txt").read_text() == ""


@pytest.mark.slow
def test_rfdetr_reads_every_image_and_box(tmp_path: Path) -> None:
    from rfdetr.datasets.yolo import _build_lazy_yolo_detection_dataset, is_valid_yolo_dataset

    for split in ("train", "valid"):
        write_coco(tmp_path / "in", split, NAMES)
    to_yolo(tmp_path / "in", tmp_path / "out")
    assert is_valid_yolo_dataset(str(tmp_path / "out"))
    paths = (str(tmp_path / "out" / part) for part in ("train/images", "train/labels", "data.yaml"))
    seen = _build_lazy_yolo_detection_dataset(*paths)
    assert seen.classes == ["cat"]
    samples = [seen.get_image_info(row) for row in range(len(seen))]
    found = {Path(sample.image_path).name: sample.xyxy.tolist() for sample in samples}
    assert found.keys() == set(FLAT)
    for number, name in enumerate(FLAT):
        x, y, w, h = box_of(number)
        assert found[name] == [pytest.approx([x, y, x + w, y + h], abs=1e-4)]
