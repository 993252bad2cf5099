"""YOLO exports of several shapes are read, and what is wrong in label files is named by file and line."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.source import find_layout, read_split
from tests.unit.data.coco_files import scan_split

YAML = "names: [cat, dog]\nnc: 2\n"


def write_image(path: Path, width: int = 40, height: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (width, height)).save(path)


def write_labels(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def read(root: Path, role: str = "train") -> DetectionData:
    return read_split(find_layout(root).split(role))


@pytest.mark.parametrize(
    ("yaml", "folder"),
    [
        ("train: ../train/images\nval: ../valid/images\n", "train/images"),  # Roboflow
        ("path: /elsewhere/coco8\ntrain: images/train2017\n", "images/train2017"),  # Ultralytics, of another machine
        ("path: sub\ntrain: images/train\n", "sub/images/train"),
        ("train: [part1/images, part2/images]\n", "part2/images"),
        ("train: train.txt\n", "images/any"),
        ("", "images/train"),
        ("", "train/images"),
    ],
)
def test_splits_are_found(tmp_path: Path, yaml: str, folder: str) -> None:
    (tmp_path / "data.yaml").write_text(yaml + YAML)
    (tmp_path / "train.txt").write_text(f"./{folder}/a.png\n\n")
    write_image(tmp_path / folder / "a.png")
    write_labels(tmp_path / folder.replace("images", "labels") / "a.txt", "1 0.5 0.5 0.25 0.5\n")
    layout = find_layout(tmp_path)
    assert layout.format == "yolo"
    data = read(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.path(0) == tmp_path / folder / "a.png"
    assert data.sizes.tolist() == [[20, 40]]
    np.testing.assert_allclose(data.boxes_xywh, [[15, 5, 10, 10]])
    assert data.labels.tolist() == [1]
    with pytest.raises(DatasetError, match=r"no images of the split test: looked in test/images"):
        read(tmp_path, "test")


def test_polygons_become_boxes_and_images_without_labels_are_background(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n")
    for name in ("a", "b"):
        write_image(tmp_path / "train/images" / f"{name}.png")
    write_labels(tmp_path / "train/labels/a.txt", "0 0.1 0.2 0.5 0.2 0.5 0.7 0.1 0.7\n\n1 0.5 0.5 1 1\n")
    data = read(tmp_path)
    assert data.objects_per_image().tolist() == [2, 0]
    np.testing.assert_allclose(data.boxes_xywh, [[4, 4, 16, 10], [0, 0, 40, 20]])


@pytest.mark.parametrize(
    ("line", "kind", "reason"),
    [
        ("0 0.5 0.5 0.2", "bad_annotation", "must be `class cx cy w h` or a polygon"),
        ("cat 0.5 0.5 0.2 0.2", "bad_annotation", "'cat 0.5"),
        ("0.5 0.5 0.5 0.2 0.2", "bad_annotation", "must be"),
        ("nan 0.5 0.5 0.2 0.2", "bad_annotation", "must be"),
        ("0 0.1 0.2 0.5 0.2 0.5", "bad_annotation", "must be"),
        ("7 0.5 0.5 0.2 0.2", "unknown_category", "category 7, which is not listed"),
        ("-1 0.5 0.5 0.2 0.2", "unknown_category", "category -1"),
        ("0 nan 0.5 0.2 0.2", "bad_box", "nan"),
        ("0 0.5 0.5 -0.2 0.2", "negative_box", "negative"),
        ("0 20 10 5 5", "outside_box", "outside its image of 40x20"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, kind: str, reason: str) -> None:
    (tmp_path / "data.yaml").write_text(YAML)
    write_image(tmp_path / "train/images/a.png")
    write_labels(tmp_path / "train/labels/a.txt", f"0 0.5 0.5 0.5 0.5\n{line}\n")
    data, findings = scan_split(find_layout(tmp_path).split("train"))
    assert findings.kinds("error") == [kind]
    assert reason in str(findings.examples[kind][0])
    assert "a.txt" in str(findings.examples[kind][0])
    assert "line 2" in str(findings.examples[kind][0])
    assert len(data.labels) == 1


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(YAML)
    for name in ("a", "b", "c"):
        write_image(tmp_path / "train/images" / f"{name}.png")
    (tmp_path / "train/images/a.png").write_bytes(b"no image")
    (tmp_path / "train/labels").mkdir()
    (tmp_path / "train/labels/b.txt").write_bytes(b"\xff\xfe\x00")
    data, findings = scan_split(find_layout(tmp_path).split("train"))
    assert set(findings.kinds("error")) == {"unreadable_image", "unreadable_label"}
    assert data.file_names.tolist() == ["train/images/c.png"]  # a label file that cannot be read is no background


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("nc: 2\n", "names must list the classes, not None"),
        ("names: [cat, dog]\nnc: 5\n", "nc is 5, and names lists 2 classes"),
        ("names: cat\n", "names must list the classes, not 'cat'"),
        ("names: [cat, cat]\n", "the name 'cat' is listed twice"),
        ("names: [1.5, cat]\n", "category 0: name must be text, not 1.5"),
        ("train: {a: 1}\n" + YAML, "train must be a folder or a list of folders"),
        ("a: &a [1]\nb: *a\n" + YAML, "aliases"),
        ("names: !!python/object/apply:os.system [x]\n", "not valid YAML"),
    ],
)
def test_a_broken_description_is_refused(tmp_path: Path, yaml: str, message: str) -> None:
    (tmp_path / "data.yaml").write_text(yaml)
    write_image(tmp_path / "train/images/a.png")
    with pytest.raises(DatasetError) as caught:
        read(tmp_path)
    assert message in str(caught.value)
    assert "data.yaml" in str(caught.value)


def test_paths_out_of_the_dataset_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "data.yaml").write_text("train: ../../outside/images\n" + YAML)
    write_image(tmp_path / "outside/images/a.png")
    with pytest.raises(DatasetError, match="no images of the split train"):
        read(root)
    (root / "data.yaml").write_text("train: list.txt\n" + YAML)
    for name in ("../outside/images/a.png", str(tmp_path / "outside/images/a.png"), "../outside/images/none.png"):
        (root / "list.txt").write_text(f"{name}\n")
        with pytest.raises(DatasetError, match="leaves the image folder"):  # whether there is such a file or not
            read(root)


@pytest.mark.parametrize(
    "text", ["names: [0x" + "f" * 5000 + "]\n", "names: 0x" + "f" * 5000, "train: 0x" + "f" * 5000]
)
def test_a_huge_number_in_a_description_is_answered(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.yaml").write_text(text + ("\n" + YAML if text.startswith("train") else ""))
    write_image(tmp_path / "train/images/a.png")
    with pytest.raises(DatasetError, match="data.yaml"):
        read(tmp_path)
