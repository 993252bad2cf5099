"""Labels of YOLO are read exactly, and what is wrong with a line is named by file, line and cause."""

from pathlib import Path

import numpy as np
import pytest

from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.read import read_split, scan_counted
from tests.unit.data.yolo_files import BOX, YAML, reasons, scan, write_tree

HAND = "0.1 0.2 2 0.2 0.3 1 0.15 0.25 0"  # three keypoints with their visibility


def write_labels(root: Path, *lines: str, yaml: str = YAML, images: str = "train/images/a.png") -> Path:
    text = "".join(f"{line}\n" for line in lines)
    return write_tree(root, {"data.yaml": yaml, images: None, "train/labels/a.txt": text})


def test_polygons_become_boxes_and_images_without_labels_are_background(tmp_path: Path) -> None:
    write_labels(tmp_path, "0 0.1 0.2 0.5 0.2 0.5 0.7 0.1 0.7", "", "1 0.5 0.5 1 1", "1.0 0.5 0.5 0.5 0.5")
    write_tree(tmp_path, {"train/images/b.png": None})
    data, findings = scan(tmp_path)
    assert data.file_names.tolist() == ["train/images/a.png", "train/images/b.png"]
    assert data.sizes.tolist() == [[20, 40], [20, 40]]
    assert data.objects_per_image().tolist() == [3, 0]
    assert data.labels.tolist() == [0, 1, 1]
    np.testing.assert_allclose(data.boxes_xywh, [[4, 4, 16, 10], [0, 0, 40, 20], [10, 5, 20, 10]])
    assert not findings.counts


@pytest.mark.parametrize(
    ("line", "kind", "cause"),
    [
        ("0 0.5 0.5 0.2", "bad_annotation", "3 values after the class; a box has 4, a polygon an even number from 6"),
        ("cat 0.5 0.5 0.2 0.2", "bad_annotation", "begins with the name 'cat', which is one of the classes"),
        ("cow 0.5 0.5 0.2 0.2", "bad_annotation", "begins with the name 'cow', but YOLO uses the number"),
        ("what is this", "bad_annotation", "not 'what is this'"),
        ("0.5 0.5 0.5 0.2 0.2", "bad_annotation", "the class must be a whole number"),
        ("nan 0.5 0.5 0.2 0.2", "bad_annotation", "the class must be a whole number"),
        ("inf 0.5 0.5 0.2 0.2", "bad_annotation", "the class must be a whole number"),
        ("0 0.1 0.2 0.5 0.2 0.93", "bad_annotation", "a value after the box, 0.93, which may be a confidence"),
        ("0 0.1 0.2 0.5 0.2 0.93 17", "bad_annotation", "a box with a confidence and a track id"),
        ("0 0.1 0.2 0.5 0.2 0.5 0.7 0.9", "bad_annotation", "7 values after the class"),
        ("0,0.5,0.5,0.2,0.2", "bad_annotation", "separated by commas: YOLO separates them by spaces"),
        ("0, 0.5, 0.5, 0.2, 0.2", "bad_annotation", "separated by commas"),
        ("0;0.5;0.5;0.2;0.2", "bad_annotation", "separated by commas"),
        ("0 0,5 0,5 0,2 0,2", "bad_annotation", "decimals are written with commas: write 0.5, not 0,5"),
        (f"0 0.2 0.3 0.4 0.4 {HAND}", "bad_annotation", "a box and 3 keypoints with their visibility"),
        ("7 0.5 0.5 0.2 0.2", "unknown_category", "class 7, which is not listed; data.yaml has 2 classes, 0 to 1"),
        ("-1 0.5 0.5 0.2 0.2", "unknown_category", "class -1"),
        ("0 nan 0.5 0.2 0.2", "bad_box", "nan"),
        ("0 0.5 1e999 0.2 0.2", "bad_box", "inf"),
        ("0 0.5 0.5 -0.2 0.2", "negative_box", "negative"),
        ("0 1.5 0.5 0.2 0.2", "outside_box", "outside its image of 40x20"),
        (
            "0 20 10 5 5",
            "bad_box",
            "pixels, but YOLO uses fractions of the image: divide x and width by 40, y and height",
        ),
        ("0 4 4 20 4 20 14 4 14", "bad_box", "looks like pixels"),
    ],
)
def test_broken_lines_are_named_with_their_cause(tmp_path: Path, line: str, kind: str, cause: str) -> None:
    data, findings = scan(write_labels(tmp_path, "0 0.5 0.5 0.5 0.5", line))
    assert findings.kinds("error") == [kind]
    assert findings.counts[kind] == 1
    finding = findings.examples[kind][0]
    assert cause in finding.reason
    assert "a.txt" in str(finding)
    assert "line 2" in str(finding)
    np.testing.assert_allclose(data.boxes_xywh, [[10, 5, 20, 10]])  # of the line before it


def test_classes_that_count_from_1_are_seen(tmp_path: Path) -> None:
    _, findings = scan(write_labels(tmp_path, "1 0.5 0.5 0.5 0.5", "2 0.5 0.5 0.5 0.5"))
    (reason,) = reasons(findings, "unknown_category")
    assert reason.endswith("The labels hold 1 to 2: YOLO counts from 0, so subtract 1 from each")
    _, findings = scan(write_labels(tmp_path, "0 0.5 0.5 0.5 0.5", "2 0.5 0.5 0.5 0.5"))
    (reason,) = reasons(findings, "unknown_category")
    assert reason.endswith("has 2 classes, 0 to 1")


def test_a_line_that_is_there_twice_counts_once_and_is_named(tmp_path: Path) -> None:
    data, findings = scan(write_labels(tmp_path, "0 0.5 0.5 0.5 0.5", "1 0.5 0.5 0.5 0.5", "0 0.50 0.5 0.5 0.5"))
    assert data.labels.tolist() == [0, 1]
    assert [str(f) for f in findings.examples["duplicate_line"]] == [
        f"{tmp_path}/train/labels/a.txt: line 3: repeats a line of the file"
    ]
    assert findings.kinds("error") == []


@pytest.mark.parametrize(
    ("shape", "keypoints"), [("[3, 3]", HAND), ("[3, 2]", "0.1 0.2 0.2 0.3 0.15 0.25"), ("['3', 3.0]", HAND)]
)
def test_with_kpt_shape_the_first_four_values_are_the_box(tmp_path: Path, shape: str, keypoints: str) -> None:
    yaml = f"{YAML}kpt_shape: {shape}\nflip_idx: [0, 2, 1]\n"
    data, findings = scan(write_labels(tmp_path, f"1 0.5 0.5 0.25 0.5 {keypoints}", yaml=yaml))
    np.testing.assert_allclose(data.boxes_xywh, [[15, 5, 10, 10]])
    assert data.labels.tolist() == [1]
    assert not findings.counts


@pytest.mark.parametrize("line", ["1 0.5 0.5 0.25 0.5", "1 0.1 0.2 0.3 0.1 0.4 0.6", f"1 0.5 0.5 0.25 0.5 {HAND} 0.1"])
def test_with_kpt_shape_another_length_is_an_error(tmp_path: Path, line: str) -> None:
    good = f"0 0.5 0.5 0.25 0.5 {HAND}"
    data, findings = scan(write_labels(tmp_path, good, line, yaml=f"{YAML}kpt_shape: [3, 3]\n"))
    (reason,) = reasons(findings, "bad_annotation")
    assert f"kpt_shape: [3, 3] makes 13 values after the class, but there are {len(line.split()) - 1}" in reason
    assert "`class cx cy w h` and 3 keypoints of 3 values" in reason
    assert len(data.labels) == 1


def test_two_keypoints_a_row_are_suspected_where_nothing_says_so(tmp_path: Path) -> None:
    places = [(x, y) for x in (0.3, 0.5) for y in (0.3, 0.5, 0.7)]
    rows = [f"0 {x} {y} 0.3 0.4 {x - 0.1} {y - 0.15} {x + 0.1} {y + 0.1} {x} {y - 0.1}" for x, y in places]
    data, findings = scan(write_labels(tmp_path, *rows))
    (reason,) = reasons(findings, "pose_suspected")
    assert reason.startswith("all 6 polygons look like a box and 3 keypoints")
    assert "kpt_shape: [3, 2]" in reason
    assert findings.kinds("error") == ["pose_suspected"]
    assert len(data.labels) == 6  # once it is accepted, they are polygons
    data, findings = scan(write_labels(tmp_path, *rows, yaml=f"{YAML}kpt_shape: [3, 2]\n"))
    assert not findings.counts
    np.testing.assert_allclose(data.boxes_xywh[0], [0.15 * 40, 0.1 * 20, 12, 8])


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path, {"data.yaml": YAML, **{f"train/images/{name}.png": None for name in "bc"}})
    write_tree(tmp_path, {"train/images/a.png": b"no image", "train/labels/b.txt": b"\xff\xfe\x00"})
    data, findings = scan(tmp_path)
    assert set(findings.kinds("error")) == {"unreadable_image", "unreadable_label"}
    assert data.file_names.tolist() == ["train/images/c.png"]  # a label file that cannot be read is no background


def test_what_is_skipped_is_accounted_for(tmp_path: Path) -> None:
    """Of an image that cannot be read, one without labels that can be, one that a list names in vain, and two lines."""
    write_labels(
        tmp_path, "0 0.5 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5", "9 0.5 0.5 0.5 0.5", yaml=f"train: list.txt\n{YAML}"
    )
    write_tree(tmp_path, {"train/images/b.png": b"no image", "train/labels/b.txt": BOX * 3})
    write_tree(tmp_path, {"train/images/c.png": None, "train/labels/c.txt": b"\xff"})
    write_tree(tmp_path, {"list.txt": "".join(f"train/images/{name}.png\n" for name in "abcd")})
    _, account = scan_counted(find_layout(tmp_path).split("train"), Findings())
    assert (account.listed_images, account.images) == (4, 1)
    assert (account.listed_objects, account.objects) == (6, 1)
    assert account.skipped == {
        "images skipped, missing_file": 1,
        "images skipped, unreadable_label": 1,
        "images skipped, unreadable_image": 1,
        "objects skipped, unknown_category": 1,
        "objects skipped, duplicate_line": 1,
        "objects skipped with their image, class or file": 3,
    }


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + BOX.encode(),
        BOX.encode("utf-16"),
        BOX.replace("\n", "\r\n").encode(),
        BOX.replace("\n", "\r").encode(),
        BOX.replace(" ", "\t").encode() + b"\n \n",
        BOX.rstrip().encode(),
    ],
)
def test_label_files_of_other_systems_are_read(tmp_path: Path, content: bytes) -> None:
    write_tree(tmp_path, {"data.yaml": YAML, "train/images/a.png": None, "train/labels/a.txt": content})
    data, findings = scan(tmp_path)
    np.testing.assert_allclose(data.boxes_xywh, [[15, 5, 10, 10]])
    assert not findings.counts


def test_two_images_of_one_stem_share_a_label_file(tmp_path: Path) -> None:
    data, findings = scan(write_tree(write_labels(tmp_path, BOX), {"train/images/a.jpg": None}))
    assert data.file_names.tolist() == ["train/images/a.jpg", "train/images/a.png"]
    assert data.objects_per_image().tolist() == [1, 1]
    assert not findings.counts


@pytest.mark.parametrize("suffix", ["jfif", "JPE", "mpo", "apng", "JPG"])
def test_every_suffix_that_can_be_decoded_is_an_image(tmp_path: Path, suffix: str) -> None:
    data, findings = scan(write_labels(tmp_path, BOX, images=f"train/images/a.{suffix}"))
    assert data.file_names.tolist() == [f"train/images/a.{suffix}"]
    assert len(data.labels) == 1
    assert not findings.counts
    data.read(0)


def test_hidden_files_and_directories_are_not_read(tmp_path: Path) -> None:
    write_labels(tmp_path, BOX)
    hidden = ("train/images/.ipynb_checkpoints/a.png", "train/images/._a.png", "__MACOSX/train/images/a.png")
    write_tree(tmp_path, dict.fromkeys(hidden) | {".git/data.yaml": "nonsense", "train/labels/._a.txt": "x"})
    data, findings = scan(tmp_path)
    assert data.file_names.tolist() == ["train/images/a.png"]
    assert not findings.counts


def test_a_split_is_read_through_the_layout(tmp_path: Path) -> None:
    layout = find_layout(write_labels(tmp_path, BOX))
    assert layout.format == "yolo"
    assert len(read_split(layout.split("train")).labels) == 1
    with pytest.raises(DatasetError, match=r"has no test split. It has the splits train \(data\.yaml\)"):
        read_split(layout.split("test"))
