"""Every kind of broken entry is named with its file and id, and what is left is used only when that is accepted."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import KINDS, DatasetError
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.errors import ConfigError, UserError
from tests.unit.data.coco_files import CONTENT, scan_split, with_annotation, with_image, write_split

CAT = CONTENT["categories"][1]


def scan(root: Path) -> Any:
    return scan_split(find_layout(root).split("train"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "holds a list, not an object"),
        ('{"images": NaN}', "NaN is not a JSON number"),
        (json.dumps(with_annotation(bbox=[1, 2, float("nan"), 4])), "annotation 0: NaN is not a JSON number"),
        (json.dumps(with_image(width=float("-inf"))), "image 2: -Infinity is not a JSON number"),
        (json.dumps(with_image(width=float("inf"))) + "0", "Infinity is not a JSON number"),
        (
            json.dumps(CONTENT).replace('"area": 99', '"bbox": [1, 2, 3, 4]'),
            "duplicate key 'bbox' in the object",
        ),
        ({**CONTENT, "images": []}, "lists no images"),
        ({**CONTENT, "categories": [{"id": "a"}]}, "lists no classes that can be used: "),
        ({**CONTENT, "categories": [], "annotations": []}, "lists no classes"),
        ({**CONTENT, "categories": {}}, "'categories' is missing or not a list"),
        ({k: v for k, v in CONTENT.items() if k != "annotations"}, "'annotations' is missing or not a list"),
        ({**CONTENT, "images": {}}, "'images' is missing or not a list"),
        (json.dumps(CONTENT).replace("99", "9" * 5000), "not valid JSON"),
    ],
)
def test_a_file_that_is_no_coco_file_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        scan(write_split(tmp_path, content))
    assert message in str(caught.value)
    assert "_annotations.coco.json" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "kind", "who", "reason"),
    [
        ({**CONTENT, "categories": [*CONTENT["categories"], 4]}, "bad_category", "category at place 3", "an object"),
        ({**CONTENT, "categories": [CAT, {"id": "", "name": "x"}]}, "bad_category", "category at place 1", "not ''"),
        ({**CONTENT, "categories": [CAT, {"id": 3.5, "name": "x"}]}, "bad_category", "category at place 1", "not 3.5"),
        ({**CONTENT, "categories": [CAT, {"id": 3, "name": True}]}, "bad_category", "category 3", "not True"),
        ({**CONTENT, "categories": []}, "unnamed_classes", "", "category ids 3, 7: add the id and name"),
        ({k: v for k, v in CONTENT.items() if k != "categories"}, "unnamed_classes", "", "category ids 3, 7"),
        ({**CONTENT, "categories": [CAT, {"id": 3}]}, "bad_category", "category 3", "name must be text"),
        ({**CONTENT, "categories": [CAT, {"id": 3, "name": "\ud800"}]}, "bad_category", "category 3", "ud800"),
        ({**CONTENT, "categories": [CAT, {"id": 3, "name": "cat"}]}, "duplicate_category", "category 3", "'cat'"),
        ({**CONTENT, "categories": [CAT, {"id": 7, "name": "d"}]}, "duplicate_category", "category 7", "id is listed"),
        (with_image(id=""), "bad_image", "image at place 1", "id must be a whole number or text, not ''"),
        (with_image(id=2.5), "bad_image", "image at place 1", "not 2.5"),
        (with_image(id=2.0**60), "bad_image", "image at place 1", "not 1.15"),  # no longer exact
        (with_image(id="5", file_name="b.jpg"), "duplicate_image", "image '5'", "listed twice"),
        (with_image(id=True), "bad_image", "image at place 1", "not True"),
        (with_image(id=10**30), "bad_image", "image at place 1", "whole number"),
        (with_image(file_name=...), "bad_image", "image 2", "file_name must be text"),
        (with_image(file_name=3), "bad_image", "image 2", "not 3"),
        (with_image(file_name="x" * 5000), "bad_image", "image 2", "at most 1024"),
        (with_image(file_name="\udc80.jpg"), "bad_image", "image 2", "udc80"),
        (with_image(height="tall"), "bad_size", "image 2", "height must be a whole number of pixels, not 'tall'"),
        (with_image(height="40,0"), "bad_size", "image 2", "not '40,0'"),
        (with_image(height=True), "bad_size", "image 2", "not True"),
        (
            with_image(width=0),
            "unreadable_image",
            "image 2",
            "a.jpg: it is not an image",
        ),  # where its size would be read
        (with_image(width=1e12), "bad_size", "image 2", "width must be"),
        (with_image(width=10.5), "bad_size", "image 2", "not 10.5"),
        (with_image(id=5, file_name="b.jpg"), "duplicate_image", "image 5", "listed twice"),
        (with_image(file_name="b.jpg"), "duplicate_file", "image 2", "'b.jpg' is listed twice"),
        (with_image(file_name="none.jpg"), "missing_file", "image 2", "no file 'none.jpg'"),
        ({**CONTENT, "annotations": [3]}, "bad_annotation", "annotation at place 0", "must be an object, not 3"),
        (with_annotation(image_id=77), "unknown_image", "annotation 0", "image 77, which is not listed"),
        (with_annotation(image_id=[2]), "unknown_image", "annotation 0", "image [2]"),
        (with_annotation(image_id=...), "unknown_image", "annotation 0", "image None"),
        (with_annotation(category_id=77), "unknown_category", "annotation 0", "category 77"),
        (with_annotation(category_id="cat"), "unknown_category", "annotation 0", "category 'cat'"),
        (with_annotation(bbox=[1, 2, 3]), "bad_box", "annotation 0", "must be four numbers"),
        (with_annotation(bbox=["a", 2, 3, 4]), "bad_box", "annotation 0", "['a', 2, 3, 4]"),
        (with_annotation(bbox=[True, 2, 3, 4]), "bad_box", "annotation 0", "[True, 2, 3, 4]"),
        (with_annotation(bbox=...), "bad_box", "annotation 0", "not None"),
        (with_annotation(bbox=[1, 1, 10**400, 3]), "bad_box", "annotation 0", "must be four numbers"),
        (json.dumps(with_annotation(bbox=[1, 1, 123, 3])).replace("123", "1e999"), "bad_box", "annotation 0", "inf"),
        (with_annotation(bbox=[1, 1, -2, 3]), "negative_box", "annotation 0", "[1, 1, -2, 3] has a negative"),
        (with_annotation(bbox=[70, 1, 5, 5]), "outside_box", "annotation 0", "outside its image of 60x40"),
        (with_annotation(bbox=[-9, 1, 5, 5]), "outside_box", "annotation 0", "outside"),
        (with_annotation(area="x"), "bad_area", "annotation 0", "not 'x'"),
        (with_annotation(area=-1), "bad_area", "annotation 0", "not -1"),
        (with_annotation(area=1e300), "bad_area", "annotation 0", "not 1e+300"),
        (with_annotation(bbox=["nan", 2, 3, 4]), "bad_box", "annotation 0", "['nan', 2, 3, 4]"),
        (with_annotation(bbox=["1_0", 2, 3, 4]), "bad_box", "annotation 0", "['1_0', 2, 3, 4]"),
        (with_annotation(bbox=["\u0663", 2, 3, 4]), "bad_box", "annotation 0", "u0663"),
        (with_annotation(bbox=["1e999", 2, 3, 4]), "bad_box", "annotation 0", "1e999"),
        (with_annotation(area="-1"), "bad_area", "annotation 0", "not '-1'"),
        (with_annotation(iscrowd="maybe"), "bad_crowd", "annotation 0", "0 or 1, not 'maybe'"),
        (with_annotation(iscrowd=[0]), "bad_crowd", "annotation 0", "not [0]"),
        (with_annotation(iscrowd=2), "bad_crowd", "annotation 0", "not 2"),
    ],
)
def test_errors_are_named_and_can_be_accepted(
    tmp_path: Path, content: object, kind: str, who: str, reason: str
) -> None:
    split = find_layout(write_split(tmp_path, content)).split("train")
    with pytest.raises(DatasetError) as caught:
        read_split(split)
    message = str(caught.value)
    for part in (str(tmp_path / "train"), who, reason, f"[{kind}", "data.allow=["):
        assert part in message, message
    data, findings = scan_split(split)
    data = read_split(split, findings.kinds("error"))
    assert kind in findings.kinds("error")
    lost = ("bad_image", "bad_size", "duplicate_image", "missing_file", "unreadable_image")
    assert len(data) == (1 if kind in lost else 2)
    assert_usable(data)


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (with_annotation(id=...), "annotation_id", "not a whole number but None"),
        ({**CONTENT, "annotations": [CONTENT["annotations"][0]] * 2}, "annotation_id", "listed twice"),
        (with_annotation(area=...), "missing_area", "has no area"),
        (with_annotation(bbox=[1, 1, 0, 5]), "empty_box", "has no area"),
        (with_annotation(bbox=[-5, 1, 20, 5]), "clipped_box", "extends beyond its image"),
    ],
)
def test_notices_are_named_and_do_not_stop(tmp_path: Path, content: object, kind: str, reason: str) -> None:
    split = find_layout(write_split(tmp_path, content)).split("train")
    data, findings = scan_split(split)
    assert kind in findings.kinds("notice")
    assert reason in findings.examples[kind][0].reason
    assert len(read_split(split).labels) == len(data.labels) > 0


def test_findings_are_counted_and_shown_without_control_characters(tmp_path: Path) -> None:
    bad = [{"id": i, "image_id": 2, "category_id": 7, "bbox": "\x1b[2J"} for i in range(250)]
    _, findings = scan(write_split(tmp_path, {**CONTENT, "annotations": bad}))
    assert findings.counts == {"bad_box": 250}
    assert len(findings.examples["bad_box"]) == 100
    with pytest.raises(DatasetError, match=r"annotation 0: .*and 249 more") as caught:
        findings.refuse_errors(())
    assert "\x1b" not in str(caught.value)


def test_what_hangs_on_a_skipped_image_is_not_counted_again(tmp_path: Path) -> None:
    content = {**with_image(width=0.5), "annotations": CONTENT["annotations"]}
    data, findings = scan(write_split(tmp_path, content))
    assert findings.kinds("error") == ["bad_size"]
    assert data.labels.tolist() == [0, 0, 1]  # the annotations of the other image


def test_of_two_categories_of_one_name_the_first_counts_which_is_said(tmp_path: Path) -> None:
    content = {**CONTENT, "categories": [CAT, {"id": 3, "name": "cat"}]}
    data, findings = scan(write_split(tmp_path, content))
    assert findings.kinds("error") == ["duplicate_category"]
    assert data.labels.tolist() == [0, 0]
    assert "objects with the id of another are skipped" in KINDS["duplicate_category"].effect


def test_only_known_kinds_can_be_accepted(tmp_path: Path) -> None:
    split = find_layout(write_split(tmp_path)).split("train")
    with pytest.raises(ConfigError, match="'bad_bx' is no kind of finding. The kinds are .*bad_box"):
        read_split(split, ["bad_bx"])


def assert_usable(data: DetectionData) -> None:
    """What is left holds together: rows, labels and sizes in range, nothing that native code would choke on."""
    assert data.offsets[0] == 0
    assert data.offsets[-1] == len(data.labels) == len(data.boxes_xywh) == len(data.areas)
    assert (abs(data.boxes_xywh) < 1e7).all()
    assert ((data.labels >= 0) & (data.labels < len(data.class_names))).all()
    for index in range(len(data)):
        boxes, labels = data.objects(index)
        height, width = data.sizes[index]
        assert len(boxes) == len(labels)
        assert (boxes >= 0).all()
        assert (boxes <= [width, height, width, height]).all()
    json.dumps(data.ground_truth())


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 80),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["a.jpg", "../x", "\ud800", "", 2**63, -1, 1e308]),
    st.sampled_from(["12", "60.0", " 7 ", "1e3", "007", "nan", "-0", "1e999", "false", "TRUE", "9" * 30, 2.0**60, 5.0]),
)
RLES = st.fixed_dictionaries(
    {"size": st.lists(st.integers(-1, 90), max_size=3) | st.sampled_from([[40, 60], [80, 100], [2**40, 2]])},
    optional={"counts": st.lists(st.integers(-2, 3000), max_size=6) | st.text("0123OPQ_`mn~", max_size=9) | SCALARS},
)
POLYGONS = st.lists(st.lists(st.floats(-10, 120) | SCALARS, min_size=2, max_size=9), max_size=3)
INNER = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner))
VALUES = INNER | RLES | POLYGONS
PLACES = [
    *[(key,) for key in CONTENT],
    *[(key, index) for key in CONTENT for index in range(len(CONTENT[key]))],
    *[(key, index, name) for key in CONTENT for index in range(len(CONTENT[key])) for name in CONTENT[key][index]],
    *[("annotations", index, "bbox", corner) for index in range(4) for corner in range(4)],
    *[("annotations", index, "segmentation") for index in range(4)] * 3,
]


@st.composite
def broken_files(draw: st.DrawFn) -> str:
    """The good file with some of its values replaced or removed, and then perhaps cut or stained as text."""
    content = copy.deepcopy(CONTENT)
    for place in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=5)):
        *path, last = place
        target: Any = content
        try:
            for step in path:
                target = target[step]
            if draw(st.booleans()):
                target[last] = draw(VALUES)
            else:
                del target[last]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took it away
    text = json.dumps(content)
    if draw(st.integers(0, 9)) == 0:
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(st.text(max_size=3)) + text[start + draw(st.integers(0, 20)) :]
    return text


def check_broken_file(root: Path, text: str) -> None:
    try:
        (root / "train").mkdir(exist_ok=True)
        (root / "train" / "_annotations.coco.json").write_bytes(text.encode("utf-8", "surrogatepass"))
        split = find_layout(root).split("train")
        data, findings = scan_split(split)
    except UserError:
        return
    assert set(findings.counts) <= set(KINDS)
    assert_usable(data)
    if findings.kinds("error"):
        with pytest.raises(DatasetError):
            read_split(split)


@st.composite
def respelled_files(draw: st.DrawFn) -> dict[str, Any]:
    """The good file with some of its values written in another way that tools have."""
    content: dict[str, Any] = copy.deepcopy(CONTENT)

    def other(value: Any, to_text: Callable[[Any], str] = str) -> Any:
        return draw(st.sampled_from([value, float(value), to_text(value), f" {to_text(float(value))}"]))

    for image in content["images"]:
        image |= {key: other(image[key]) for key in ("id", "width", "height")}
    for category in content["categories"]:
        category["id"] = other(category["id"])
    for annotation in content["annotations"]:
        annotation |= {key: other(annotation[key]) for key in ("id", "image_id", "category_id")}
        annotation["iscrowd"] = draw(st.sampled_from(CROWDS[annotation["iscrowd"]]))
        annotation["bbox"] = [other(value) for value in annotation["bbox"]]
        if "area" in annotation:
            annotation["area"] = other(annotation["area"])
        x, y, width, height = CONTENT["annotations"][content["annotations"].index(annotation)]["bbox"]
        if width and draw(st.booleans()):
            annotation["bbox"] = draw(st.sampled_from([None, [], ""]))
            annotation["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    return content


CROWDS = {0: [0, 0.0, False, None, "0", "false", "False", ""], 1: [1, 1.0, True, "1", "true", "TRUE"]}


FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@settings(max_examples=300, **FUZZ)
@given(broken_files())
def test_broken_files_are_answered(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    check_broken_file(write_split(tmp_path_factory.getbasetemp() / "fuzz"), text)


@settings(max_examples=100, **FUZZ)
@given(respelled_files())
def test_respelled_files_hold_the_same(tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]) -> None:
    root = tmp_path_factory.getbasetemp() / "respelled"
    usual = read_split(find_layout(write_split(root)).split("train")).ground_truth()
    data, findings = scan_split(find_layout(write_split(root, content)).split("train"))
    assert findings.kinds("error") == []
    truth = data.ground_truth()
    boxes = [[np.array(annotation.pop("bbox")) for annotation in t["annotations"]] for t in (usual, truth)]
    np.testing.assert_allclose(boxes[1], boxes[0], atol=1e-12)
    assert truth == usual


@pytest.mark.slow
@settings(max_examples=10_000, **FUZZ)
@given(broken_files())
def test_ten_thousand_broken_files_are_answered(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    check_broken_file(write_split(tmp_path_factory.getbasetemp() / "fuzz-slow"), text)


def test_what_can_be_learned_from_is_counted_as_it_is_served(tmp_path: Path) -> None:
    """Neither crowd regions nor boxes without an area in their image."""
    outside = {"id": 4, "image_id": 5, "category_id": 7, "bbox": [100, 5, 0, 0], "area": 0, "iscrowd": 0}
    sliver = {"id": 5, "image_id": 2, "category_id": 7, "bbox": [59.5, 5, 9, 9], "area": 81, "iscrowd": 0}
    content = {**CONTENT, "annotations": [*CONTENT["annotations"], outside, sliver]}
    data, _ = scan_split(find_layout(write_split(tmp_path, content)).split("train"))
    served = [len(data.objects(row)[0]) for row in range(len(data))]
    per_image = np.add.reduceat(data.usable().astype(int), data.offsets[:-1])
    assert per_image.tolist() == served == [1, 2]
    assert data.describe_lack() == ""


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        (lambda _: [], None),
        (lambda boxes: [{**box, "bbox": [1, 1, 0, 5]} for box in boxes[:2]], (2, 0, 2)),
        (lambda boxes: [{**box, "iscrowd": 1} for box in boxes], (4, 4, 0)),
        (lambda boxes: boxes[2:], (2, 1, 1)),
    ],
)
def test_a_split_without_an_object_says_why(
    tmp_path: Path, change: Callable[[list], list], lack: tuple[int, int, int] | None
) -> None:
    content = {**CONTENT, "annotations": change(CONTENT["annotations"])}
    data, _ = scan_split(find_layout(write_split(tmp_path, content)).split("train"))
    text = "none of its %d boxes can be used: %d are crowd regions (iscrowd), %d have no area in their image"
    assert data.describe_lack() == (text % lack if lack else "it has no box")
