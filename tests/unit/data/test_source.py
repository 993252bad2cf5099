"""Layouts are recognised, annotations keep their values, and what is wrong is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from rfdetr_hwd.data.source import DatasetError, check_images_exist, find_layout, read_split

CONTENT = {
    "categories": [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 7, "name": "cat", "supercategory": "things"},
        {"id": 3, "name": "dog", "supercategory": "things"},
    ],
    "images": [
        {"id": 5, "file_name": "b.jpg", "width": 100, "height": 80},
        {"id": 2, "file_name": "a.jpg", "width": 60, "height": 40},
    ],
    "annotations": [
        {"id": 0, "image_id": 2, "category_id": 7, "bbox": [1.1, 2, 10, 20.7], "area": 99, "iscrowd": 0},
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [90, 70, 20, 20], "iscrowd": 0},
        {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 1},
        {"id": 3, "image_id": 5, "category_id": 7, "bbox": [5, 5, 0, 4], "area": 0, "iscrowd": 0},
    ],
}


def write(root: Path, content: object = CONTENT) -> Path:
    folder = root / "train"
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "_annotations.coco.json").write_text(text)
    return root


def read(root: Path):
    return read_split(find_layout(root).split("train"))


def test_rows_labels_and_boxes(tmp_path: Path) -> None:
    data = read(write(tmp_path))
    assert data.class_names == ("dog", "cat")  # by category id; the grouping category 0 is no class
    assert data.category_ids == (3, 7)
    assert data.image_ids.tolist() == [5, 2]
    boxes, labels = data.objects(0)
    assert boxes.tolist() == [[90, 70, 100, 80]]  # clipped; the crowd and the box without area are left out
    assert labels.tolist() == [0]
    np.testing.assert_allclose(data.objects(1)[0], [[1.1, 2, 11.1, 22.7]], rtol=1e-6)


def test_ground_truth_keeps_ids_and_values_and_numbers_from_one(tmp_path: Path) -> None:
    truth = read(write(tmp_path)).ground_truth()
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
    assert read(write(tmp_path, content)).class_names == ("things", "dog", "cat")


def test_classes_are_found_by_name(tmp_path: Path) -> None:
    data = read(write(tmp_path))
    assert data.category_ids_of(["cat", "dog"]) == (7, 3)
    with pytest.raises(DatasetError, match=r"only the model has \['cow'\], only the dataset has \['cat'\]"):
        data.category_ids_of(["dog", "cow"])


def test_layouts_are_recognised(tmp_path: Path) -> None:
    assert find_layout(write(tmp_path)).format == "roboflow"
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    (coco / "annotations" / "instances_val2017.json").write_text(json.dumps(CONTENT))
    layout = find_layout(coco)
    assert layout.format == "coco"
    assert layout.split("val").images == coco / "val2017"
    assert len(read_split(layout.split("val"))) == 2
    with pytest.raises(DatasetError, match=r"looked for SPLIT/_annotations.coco.json .* annotations/instances_SPLIT"):
        find_layout(coco / "annotations")
    with pytest.raises(DatasetError, match="there is no folder"):
        find_layout(tmp_path / "none")


def changed(**changes: object) -> dict:
    annotation = {**CONTENT["annotations"][0], **changes}
    return {**CONTENT, "annotations": [{k: v for k, v in annotation.items() if v is not ...}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "holds a list, not an object"),
        ('{"images": NaN}', "NaN is not a JSON number"),
        ({**CONTENT, "images": []}, "lists no images"),
        ({**CONTENT, "categories": []}, "lists no classes"),
        ({k: v for k, v in CONTENT.items() if k != "annotations"}, "'annotations' is missing"),
        ({**CONTENT, "annotations": [3]}, "'annotations' is missing or not a list of objects"),
        ({**CONTENT, "images": [{"id": 1}]}, "malformed: KeyError('file_name')"),
        (changed(bbox=[1, 2, 3]), "annotation 0: bbox must be four numbers"),
        (changed(bbox=["a", 2, 3, 4]), "annotation 0: bbox must be four numbers"),
        (changed(bbox=...), "annotation 0 has no 'bbox'"),
        (changed(bbox=[1, 1, 10**400, 3]), "annotation 0: bbox must be four numbers"),
        (json.dumps(changed(bbox=[1, 1, 123, 3])).replace("123", "1e999"), "annotation 0: bbox must be four numbers"),
        (json.dumps(CONTENT).replace('"id": 7', '"id": 1e999'), "malformed: OverflowError"),
        (changed(area=1e300), "annotation 0: area must be a number"),
        (changed(iscrowd="0"), "annotation 0: iscrowd must be 0 or 1"),
        ({**CONTENT, "images": [CONTENT["images"][1]] * 2}, "lists image id 2 twice"),
        ({**CONTENT, "images": [{**CONTENT["images"][0], "id": "5"}]}, "an image id must be a whole number"),
        ({**CONTENT, "images": [{**i, "width": 0} for i in CONTENT["images"]]}, "has no width or height"),
        (changed(area="x"), "annotation 0: area must be a number"),
        (changed(image_id=77), "annotation 0 belongs to image 77, which is not listed"),
        (changed(image_id=[2]), "annotation 0 belongs to image [2]"),
        (changed(category_id=77), "annotation 0 has the category 77, which is not listed"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read(write(tmp_path, content))
    assert message in str(caught.value)
    assert "_annotations.coco.json" in str(caught.value)


def test_missing_and_escaping_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"image 5 of train is missing: .*b.jpg"):
        check_images_exist(read(write(tmp_path)))
    (tmp_path / "secret.jpg").touch()
    content = {**CONTENT, "images": [{**CONTENT["images"][0], "file_name": "../secret.jpg"}], "annotations": []}
    with pytest.raises(DatasetError, match="lies outside"):
        check_images_exist(read(write(tmp_path, content)))
