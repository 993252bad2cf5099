"""Values that annotation tools write in another way are read as what they mean, and a notice says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import Findings
from rfdetr_hwd.data.read import read_split
from tests.unit.data.coco_files import CONTENT, scan_split, with_annotation, write_split


def scan(root: Path, content: object) -> tuple[DetectionData, Findings]:
    """Return what is read of a file that has no errors, and the notices."""
    split = find_layout(write_split(root, content)).split("train")
    data, findings = scan_split(split)
    assert findings.kinds("error") == []
    assert len(read_split(split)) == len(data)
    return data, findings


def notices(findings: Findings) -> dict[str, list[str]]:
    """Return who and why by kind, but for what the unchanged file has as well."""
    kinds = ("missing_area", "empty_box", "clipped_box")
    return {
        kind: [f"{example.who}: {example.reason}" for example in found]
        for kind, found in findings.examples.items()
        if kind not in kinds
    }


def same_but_for_the_fingerprint(data: DetectionData, other: DetectionData) -> bool:
    """Return whether two splits hold the same annotations."""
    return data.ground_truth() == other.ground_truth() and data.file_names.tolist() == other.file_names.tolist()


@pytest.fixture
def usual(tmp_path: Path) -> DetectionData:
    return scan(tmp_path / "usual", CONTENT)[0]


def changed(change: dict[str, Any]) -> dict[str, Any]:
    return {key: [{**entry, **change.get(key, {})} for entry in CONTENT[key]] for key in CONTENT}


def spelled(keys: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """Return the content with some values written as text."""
    content = json.loads(json.dumps(CONTENT))
    for key, names in keys.items():
        for entry in content[key]:
            entry |= {name: [str(v) for v in entry[name]] if name == "bbox" else str(entry[name]) for name in names}
    return content


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"annotations": ("bbox",)}, ["annotation 0: bbox written as text"]),
        ({"annotations": ("iscrowd",)}, ["annotation 0: iscrowd written as text"]),
        ({"images": ("width", "height")}, ["image 5: width, height written as text"]),
        ({"images": ("id",), "annotations": ("image_id",)}, ["image '5': id written as text"]),
        ({"annotations": ("image_id",)}, ["annotation 0: image_id written as text"]),
        ({"images": ("id",)}, ["image '5': id written as text"]),
        ({"categories": ("id",), "annotations": ("category_id",)}, ["category '7': id written as text"]),
        ({"annotations": ("id", "category_id")}, ["annotation '0': id, category_id written as text"]),
    ],
)
def test_numbers_written_as_text_are_the_same_numbers(
    tmp_path: Path, usual: DetectionData, keys: dict[str, tuple[str, ...]], said: list[str]
) -> None:
    data, findings = scan(tmp_path, spelled(keys))
    assert same_but_for_the_fingerprint(data, usual)
    found = notices(findings)
    assert list(found) == ["text_value"]
    assert set(said) <= set(found["text_value"])
    # the grouping category is no class, so nothing is said of it
    assert findings.counts["text_value"] == sum(len(CONTENT[key]) - (key == "categories") for key in keys)


def test_ids_written_as_floating_point_numbers_are_the_same_numbers(tmp_path: Path, usual: DetectionData) -> None:
    content = json.loads(json.dumps(CONTENT))
    for key, name in (
        ("images", "id"),
        ("categories", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
    ):
        for entry in content[key]:
            entry[name] = float(entry[name])
    data, findings = scan(tmp_path, content)
    assert same_but_for_the_fingerprint(data, usual)
    assert notices(findings) == {}


def test_ids_that_are_no_numbers_are_numbered_in_the_order_of_the_file(tmp_path: Path, usual: DetectionData) -> None:
    content = json.loads(json.dumps(CONTENT))
    images, categories = {5: "b1946ac9", 2: "猫"}, {0: "-", 7: "cat id", 3: "dog id"}
    for entry in content["images"]:
        entry["id"] = images[entry["id"]]
    for entry in content["categories"][1:]:
        entry["id"] = categories[entry["id"]]
    for entry in content["annotations"]:
        entry |= {"image_id": images[entry["image_id"]], "category_id": categories[entry["category_id"]]}
    data, findings = scan(tmp_path, content)
    assert data.image_ids.tolist() == [1, 2]
    assert dict(zip(data.class_names, data.category_ids, strict=True)) == {"cat": 2, "dog": 3}
    for row in range(2):
        boxes, labels = data.objects(row)
        assert boxes.tolist() == usual.objects(row)[0].tolist()
        assert [data.class_names[i] for i in labels] == [usual.class_names[i] for i in usual.objects(row)[1]]
    assert {kind: findings.counts[kind] for kind in notices(findings)} == {"text_id": 4}  # images and classes


@pytest.mark.parametrize(
    ("value", "is_crowd", "said"),
    [
        *((value, False, {}) for value in (0, 0.0, False, None, ..., "")),
        *((value, True, {}) for value in (1, 1.0, True)),
        *(
            (value, False, {"text_value": ["annotation 0: iscrowd written as text"]})
            for value in ("0", "false", "False")
        ),
        *(
            (value, True, {"text_value": ["annotation 0: iscrowd written as text"]})
            for value in ("1", "true", " TRUE ")
        ),
    ],
)
def test_every_way_to_write_iscrowd_means_one_thing(
    tmp_path: Path, value: object, is_crowd: bool, said: dict[str, list[str]]
) -> None:
    data, findings = scan(tmp_path, with_annotation(iscrowd=value))
    assert data.crowd.tolist() == [is_crowd]
    assert notices(findings) == said


@pytest.mark.parametrize("value", [None, "", ...])
def test_without_an_area_the_box_has_its_own(tmp_path: Path, value: object) -> None:
    data, findings = scan(tmp_path, with_annotation(area=value, bbox=[1, 2, 10, 20]))
    assert data.areas.tolist() == [200]
    assert findings.counts == {"missing_area": 1}


def test_an_area_written_as_text_is_that_area(tmp_path: Path) -> None:
    data, findings = scan(tmp_path, with_annotation(area="99.5"))
    assert data.areas.tolist() == [99.5]
    assert notices(findings) == {"text_value": ["annotation 0: area written as text"]}


RLE = {"size": [40, 60], "counts": [40 * 26 + 19, 5, 35, 5, 40 * 32 - 64]}  # rows 19 to 23 of the columns 26 and 27
POLYGON = [[26, 19, 28, 19, 28, 24, 26, 24]]


@pytest.mark.parametrize("bbox", [..., None, [], "", [0, 0, 0, 0]])
@pytest.mark.parametrize("segmentation", [RLE, POLYGON])
def test_without_a_box_that_of_the_segmentation_stands_in(tmp_path: Path, bbox: object, segmentation: object) -> None:
    data, findings = scan(tmp_path, with_annotation(bbox=bbox, segmentation=segmentation, area=9))
    assert data.boxes_xywh.tolist() == [[26, 19, 2, 5]]
    assert data.areas.tolist() == [9]
    assert notices(findings) == {"missing_box": ["annotation 0: has no bbox"]}


def test_a_box_counts_whatever_the_segmentation_says(tmp_path: Path, usual: DetectionData) -> None:
    content = changed({"annotations": {"segmentation": {"size": [4, 4], "counts": [0, 9]}}})
    data, findings = scan(tmp_path, content)
    assert same_but_for_the_fingerprint(data, usual)
    assert notices(findings) == {}


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 2, 3]], "has no bbox, and its segmentation holds [1, 2, 3]"),
        ({"size": [40, 60], "counts": "~"}, "has no bbox, and its RLE"),
        ({"size": [80, 60], "counts": [0, 9]}, "has no bbox, and its RLE has 60x80 pixels, but its image 60x40"),
        ([[-9e6, 0, 9e6, 0, 0, 9]], "bbox must be four numbers"),
        ([], "bbox must be four numbers"),
    ],
)
def test_without_a_box_and_a_good_segmentation_an_annotation_is_an_error(
    tmp_path: Path, segmentation: object, reason: str
) -> None:
    content = with_annotation(bbox=..., segmentation=segmentation)
    data, findings = scan_split(find_layout(write_split(tmp_path, content)).split("train"))
    assert findings.kinds("error") == ["bad_box"]
    assert findings.examples["bad_box"][0].reason.startswith(reason)
    assert len(data.labels) == 0


def test_a_class_name_written_as_a_number_is_that_name(tmp_path: Path) -> None:
    content = json.loads(json.dumps(CONTENT))
    content["categories"][1]["name"] = 4
    data, findings = scan(tmp_path, content)
    assert data.class_names == ("dog", "4")
    assert notices(findings) == {"text_value": ["category 7: name written as a number"]}


def test_without_categories_the_classes_are_named_by_their_ids_once_that_is_accepted(tmp_path: Path) -> None:
    content = {key: value for key, value in CONTENT.items() if key != "categories"}
    split = find_layout(write_split(tmp_path, content)).split("train")
    data = read_split(split, ["unnamed_classes"])
    assert (data.class_names, data.category_ids) == (("3", "7"), (3, 7))
    assert len(data.labels) == 4


def test_a_class_with_the_name_of_its_group_is_one_class_with_it(tmp_path: Path) -> None:
    content = json.loads(json.dumps(CONTENT))
    content["categories"] = [
        {"id": 3, "name": "pen", "supercategory": "none"},
        {"id": 7, "name": "pen", "supercategory": "pen"},
    ]
    data, findings = scan(tmp_path, content)
    assert (data.class_names, data.category_ids) == (("pen",), (3,))
    assert data.labels.tolist() == [0, 0, 0, 0]
    assert notices(findings) == {"group_name": ["category 7: has the name of its group, 'pen'"]}
