"""The labels of an image are found where YOLO looks, or else where they are, and none is passed over in silence."""

import unicodedata
from pathlib import Path

import pytest

from rfdetr_hwd.data.yolo.label_files import label_file_of
from tests.unit.data.yolo_files import BOX, YAML, reasons, scan, write_split, write_tree


def with_yaml(root: Path, images: str = "train/images") -> Path:
    return write_tree(root, {"data.yaml": f"train: {images}\n{YAML}"})


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("images/train/a.b.JPG", "labels/train/a.b.txt"),
        ("images/x/images/sub/a.png", "images/x/labels/sub/a.txt"),
        ("train/a.png", "train/a.txt"),
        ("images.png", "images.txt"),
        ("Images/a.png", "Images/a.txt"),
    ],
)
def test_where_yolo_looks(image: str, label: str) -> None:
    assert label_file_of(image) == label


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train/images", "train/annotations"),
        ("train/images", "train/Labels"),
        ("train/images", "train/images"),
        ("train/images", "labels/train"),
        ("train/images", "labels"),
        ("train/images", "train"),
        ("train/Images", "train/Labels"),
        ("train/Images", "train/labels"),
        ("JPEGImages/train", "labels/train"),
        ("train/img", "train/txt"),
    ],
)
def test_labels_elsewhere_are_read_and_that_is_said(tmp_path: Path, images: str, labels: str) -> None:
    with_yaml(tmp_path, images)
    for stem in ("a", "b"):
        write_split(tmp_path, images, labels, stem)
    data, findings = scan(tmp_path)
    assert data.objects_per_image().tolist() == [1, 1]
    assert data.boxes_xywh.tolist() == [[15, 5, 10, 10]] * 2
    usual = label_file_of(f"{images}/a.png").rpartition("/")[0]
    (reason,) = reasons(findings, "assumed")
    assert reason == f"the labels of 2 images are read from {labels}, but YOLO would look in {usual}"
    assert set(findings.counts) == {"assumed"}


def test_labels_of_another_split_are_not_taken(tmp_path: Path) -> None:
    """Test images often have no labels, and the names of training images."""
    write_split(tmp_path)
    write_tree(tmp_path, {"data.yaml": f"train: train/images\ntest: test/images\n{YAML}", "test/images/a.png": None})
    write_split(tmp_path, "other/images", "train/notes")
    data, findings = scan(tmp_path, "test")
    assert data.objects_per_image().tolist() == [0]
    assert reasons(findings, "assumed") == [
        "none of its 1 images has a label file (such as test/labels/a.txt): all are background"
    ]


def test_labels_in_two_places_are_asked_about(tmp_path: Path) -> None:
    with_yaml(tmp_path, "[train/images, more/images]")
    write_split(tmp_path, "more/images", "more/labels", "z")
    for place in ("train/labels_v1", "train/labels_v2"):
        write_split(tmp_path, "train/images", place)
    data, findings = scan(tmp_path)
    assert data.file_names.tolist() == ["more/images/z.png"]  # images whose labels are not known are no background
    assert findings.kinds("error") == ["unreadable_label"]
    assert reasons(findings, "unreadable_label") == [
        "the labels of its images may be those in 'train/labels_v1' or 'train/labels_v2': keep one"
    ]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("a.png", "a.TXT"),
        ("Photo 1.PNG", "photo 1.txt"),
        ("a.png", "a.png.txt"),
        (unicodedata.normalize("NFD", "für.png"), unicodedata.normalize("NFC", "für.txt")),
    ],
)
def test_a_label_file_whose_name_differs_a_little_is_read(tmp_path: Path, image: str, label: str) -> None:
    write_tree(with_yaml(tmp_path), {f"train/images/{image}": None, f"train/labels/{label}": BOX})
    write_split(tmp_path, stem="other")
    data, findings = scan(tmp_path)
    assert data.objects_per_image().tolist() == [1, 1]
    assert set(findings.counts) == {"assumed"}
    assert f"train/labels/{label} is read as train/labels/" in reasons(findings, "assumed")[0]


def test_labels_without_an_image_are_named(tmp_path: Path) -> None:
    write_split(with_yaml(tmp_path))
    write_tree(tmp_path, {f"train/labels/{stem}.txt": BOX for stem in "bc"} | {"train/images/c.heic": None})
    data, findings = scan(tmp_path)
    assert data.file_names.tolist() == ["train/images/a.png"]
    assert [str(finding) for finding in findings.examples["unused_label"]] == [
        f"{tmp_path}/train/labels/b.txt: is not read: there is no image train/images/b.*",
        f"{tmp_path}/train/labels/c.txt: is not read: its image train/images/c.heic has a format that is not read",
    ]
    assert findings.kinds("error") == []


@pytest.mark.parametrize("name", ["classes.txt", "README.txt", "empty.txt", "train.txt"])
def test_other_texts_among_the_labels_are_no_labels(tmp_path: Path, name: str) -> None:
    texts = {"classes.txt": "cat\ndog\n", "README.txt": "An export, of 2026\n", "empty.txt": "", "train.txt": "a.png\n"}
    write_tree(write_split(with_yaml(tmp_path)), {f"train/labels/{name}": texts[name]})
    _, findings = scan(tmp_path)
    assert not findings.counts


def test_labels_of_images_in_no_split_of_a_list_are_not_named(tmp_path: Path) -> None:
    write_tree(with_yaml(tmp_path, "train.txt"), {"train.txt": "images/a.png\n"})
    for stem in "ab":
        write_split(tmp_path, "images", "labels", stem)
    _, findings = scan(tmp_path)
    assert not findings.counts
