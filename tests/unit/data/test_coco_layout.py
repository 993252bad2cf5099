"""COCO annotations are recognised by what is in them, wherever they lie, and nothing that is there goes unsaid."""

import json
import os
from pathlib import Path

import pytest

from rfdetr_hwd.data.coco import layout as coco_layout
from rfdetr_hwd.data.coco.layout import KEYS, peek_json
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.known_layouts import LAYOUTS, KnownLayout
from rfdetr_hwd.data.layout import Layout, SplitFiles
from rfdetr_hwd.data.read import read_split, scan_split
from tests.unit.data.pictures import annotate, draw, num_right, write_json

DOCS = Path(__file__).parents[3] / "docs" / "layouts.md"
COCO_LAYOUTS = [row for row in LAYOUTS if row.format in ("coco", "roboflow")]


def write(root: Path, annotations: str, images: str, first: int = 0, count: int = 3) -> None:
    """Write annotations and their pictures at paths below the root."""
    names = [f"im{number}.png" for number in range(first, first + count)]
    for number, name in enumerate(names, first):
        draw(root / images / name, number)
    write_json(root / annotations, annotate(names, first))


def read_all(root: Path) -> dict[str, tuple[int, int]]:
    """Return for each split how many images it has, and how many boxes are what the pixels show."""
    layout = find_layout(root)
    return {str(split.role): (len(data := read_split(split)), num_right(data)) for split in layout.splits()}


@pytest.mark.parametrize("spelling", [("train", "valid"), ("Train", "Validation"), ("TRAINING", "val")])
@pytest.mark.parametrize("row", COCO_LAYOUTS, ids=lambda row: row.annotations + " " + row.images)
def test_each_layout_of_the_table_is_read_exactly(tmp_path: Path, row: KnownLayout, spelling: tuple[str, str]) -> None:
    for number, name in enumerate(spelling if "SPLIT" in row.annotations else ("train",)):
        annotations, images = (path.replace("SPLIT", name).replace("NAME", "via_export") for path in row[2:])
        write(tmp_path / "below", annotations, images, number * 10)
    whole = (3, 3)
    expected = {"train": whole, "val": whole} if "SPLIT" in row.annotations else {"train": whole}
    for root in (tmp_path / "below", tmp_path):
        assert find_layout(root).format == row.format
        assert read_all(root) == expected


def test_the_documentation_lists_the_layouts_of_the_table() -> None:
    lines = DOCS.read_text().splitlines()
    rows = [f"| `{row.format}` | {row.made_by} | `{row.annotations}` | `{row.images}` |" for row in LAYOUTS]
    assert [line for line in lines if line.startswith("| `")] == rows


@pytest.mark.parametrize("keys", [("images", "categories", "annotations"), ("annotations", "images", "categories")])
@pytest.mark.parametrize("padding", [0, 300_000])
def test_the_order_of_keys_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...], padding: int
) -> None:
    monkeypatch.setattr(coco_layout, "_CHUNK_BYTES", 1000)  # many chunks, with keys on their edges
    content = annotate(["im0.png", "im1.png"])
    parts = [
        f'"{key}" : {json.dumps(content[key])[:-1]}, {" " * padding}{json.dumps(content[key])[1:]}' for key in keys
    ]
    path = tmp_path / "anything.json"
    path.write_text('\ufeff\n{"info": {}, ' + ",\n".join(parts) + "}", encoding="utf-8")
    assert peek_json(path).keys == KEYS


def test_a_look_is_bounded_and_parses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"images": annotate(["im0.png"])["images"], "annotations": [{"x": "y" * 1_000_000}], "categories": []}
    path = write_json(tmp_path / "big.json", content)
    taken: list[int] = []
    monkeypatch.setattr(coco_layout, "_search", lambda file, start, missing: taken.append(len(missing)) or set())
    assert peek_json(path) == (KEYS, ("im0.png",))
    assert taken == [0] or not taken


@pytest.mark.parametrize("content", ["[1]", "", "nothing", '"images"', '{"images": 1}', '{"a": "images annotations"}'])
def test_other_json_is_no_annotation_file(tmp_path: Path, content: str) -> None:
    draw(tmp_path / "im0.png", 0)
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(DatasetError, match="has no known layout"):
        find_layout(tmp_path)


def test_text_in_another_encoding_is_recognised(tmp_path: Path) -> None:
    draw(tmp_path / "im0.png", 0)
    (tmp_path / "a.json").write_text(json.dumps(annotate(["im0.png"])), encoding="utf-16")
    assert read_all(tmp_path) == {"train": (1, 1)}


def test_annotations_of_other_tasks_are_not_used_and_named(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "val")):
        write(tmp_path, f"annotations/instances_{name}2017.json", f"{name}2017", number * 10)
        for task in ("person_keypoints", "stuff"):
            write(tmp_path, f"annotations/{task}_{name}2017.json", f"{name}2017", number * 10)
        captions = {key: value for key, value in annotate(["im0.png"]).items() if key != "categories"}
        write_json(tmp_path / "annotations" / f"captions_{name}2017.json", captions)
    layout = find_layout(tmp_path)
    assert {split.role: split.place for split in layout.splits()} == {
        "train": "annotations/instances_train2017.json",
        "val": "annotations/instances_val2017.json",
    }
    remarks = " ".join(layout.remarks())
    for task in ("person_keypoints", "stuff", "captions"):
        assert f"annotations/{task}_train2017.json" in remarks
    assert "captions_val2017.json lacks categories" in remarks


def test_two_files_for_one_role_are_not_guessed_between(tmp_path: Path) -> None:
    write(tmp_path, "train_a.json", "images")
    write(tmp_path, "train_b.json", "images")
    layout = find_layout(tmp_path)
    with pytest.raises(DatasetError, match=r"several splits for train: train_a.json, train_b.json. Choose one with"):
        layout.split("train")
    assert layout.split("train", "train_b.json").place == "train_b.json"


def test_parts_of_other_splits_are_not_used_beside_them(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "val", "trainval", "minival")):
        write(tmp_path, f"annotations/instances_{name}2014.json", "images", number * 10)
    layout = find_layout(tmp_path)
    assert [split.name for split in layout.splits()] == ["train2014", "val2014"]
    assert "instances_trainval2014.json" in layout.remarks()[0]
    for name in ("train", "val"):
        (tmp_path / "annotations" / f"instances_{name}2014.json").unlink()
    assert [split.name for split in find_layout(tmp_path).splits()] == ["trainval2014", "minival2014"]


def test_the_plain_name_is_taken_where_no_name_says_anything(tmp_path: Path) -> None:
    write(tmp_path, "data/annotations.json", "data/batch_1")  # as TACO has it
    write(tmp_path, "data/annotations_unofficial.json", "data/batch_1")
    layout = find_layout(tmp_path)
    assert [(split.role, split.place) for split in layout.splits()] == [("train", "data/annotations.json")]
    assert "not used: data/annotations_unofficial.json" in layout.remarks()[0]


def test_a_directory_of_a_split_without_annotations_is_said(tmp_path: Path) -> None:
    write(tmp_path, "train/_annotations.coco.json", "train")
    for number in range(5):
        draw(tmp_path / "test" / "sub" / f"{number}.jpg", number)
    assert "not used, because there are no annotations: 5 images in test" in find_layout(tmp_path).remarks()


def test_a_format_that_is_asked_for_and_not_there_is_an_error_that_names_what_is(tmp_path: Path) -> None:
    write(tmp_path, "train/annotations.json", "train")
    assert find_layout(tmp_path, "coco").format == "coco"
    for format in ("yolo", "roboflow", "webdataset"):
        with pytest.raises(DatasetError, match=rf"is not in the format {format} .*: it is coco"):
            find_layout(tmp_path, format)  # type: ignore[arg-type]


def test_files_whose_names_say_nothing_are_used_when_named(tmp_path: Path) -> None:
    for number, name in enumerate(("cats", "dogs")):
        write(tmp_path, f"{name}/annotations/instances.json", f"{name}/images", number * 10)
    layout = find_layout(tmp_path)
    assert list(layout.splits()) == []
    with pytest.raises(
        DatasetError, match=r"has no train split. It has the splits cats \(cats/annotations/instances.json\), dogs"
    ):
        layout.split("train")
    named = find_layout(tmp_path, names={"train": "cats", "val": "dogs/annotations/instances.json"})
    assert [(split.role, num_right(read_split(split))) for split in named.splits()] == [("train", 3), ("val", 3)]


def test_a_file_an_image_is_answered_with_what_to_do(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path, f"label/{number}.json", "images", number, 1)
    remarks = find_layout(tmp_path).remarks()
    assert "12 annotation files name no split: if each is of one image, merge them into one" in remarks
    assert "label/0.json" in remarks[0]
    assert "and 6 more" in remarks[0]


def test_a_broken_file_of_a_split_is_named(tmp_path: Path) -> None:
    write(tmp_path, "annotations/instances_val.json", "images")
    path = write_json(tmp_path / "annotations" / "instances_train.json", annotate(["im0.png"] * 100))
    path.write_text(path.read_text()[:300])
    remarks = " ".join(find_layout(tmp_path).remarks())
    assert "annotations/instances_train.json lacks annotations, categories" in remarks
    assert "there is no train split, which `train` needs" in remarks


def test_an_image_directory_may_be_a_link_to_another_disk(tmp_path: Path) -> None:
    write(tmp_path / "disk", "coco.json", "train2017")
    write_json(tmp_path / "root" / "annotations" / "instances_train2017.json", annotate(["im0.png", "im1.png"]))
    os.symlink(tmp_path / "disk" / "train2017", tmp_path / "root" / "train2017")
    assert read_all(tmp_path / "root") == {"train": (2, 2)}
    write(tmp_path / "disk", "valid/_annotations.coco.json", "valid", 10)
    os.symlink(tmp_path / "disk" / "valid", tmp_path / "root" / "valid")
    assert read_all(tmp_path / "root") == {"train": (2, 2), "val": (3, 3)}


def test_hidden_directories_are_no_splits(tmp_path: Path) -> None:
    write(tmp_path, "train/_annotations.coco.json", "train")
    for hidden in (".ipynb_checkpoints", "__MACOSX", ".git"):
        write(tmp_path, f"{hidden}/valid/_annotations.coco.json", f"{hidden}/valid", 10)
    assert read_all(tmp_path) == {"train": (3, 3)}


def test_annotations_and_images_are_named_apart(tmp_path: Path) -> None:
    write(tmp_path / "a", "lists/first.json", "unused")
    write(tmp_path / "b", "unused.json", "photos")
    files = SplitFiles("lists/first.json", str(tmp_path / "b" / "photos"))
    split = find_layout(tmp_path / "a", names={"val": files}).split("val")
    data = read_split(split)
    assert (split.role, data.images, num_right(data)) == ("val", tmp_path / "b" / "photos", 3)
    for wrong, reason in (
        (SplitFiles("lists/none.json"), "there are no annotations"),
        (SplitFiles("lists/first.json", "none"), "there is no image directory"),
    ):
        with pytest.raises(DatasetError, match=rf"data.val \(--val\): {reason} .*none"):
            find_layout(tmp_path / "a", names={"val": wrong}).split("val")


def test_labels_of_yolo_are_not_named_apart(tmp_path: Path) -> None:
    draw(tmp_path / "images" / "train" / "a.png", 0)
    (tmp_path / "labels").mkdir()
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    layout = find_layout(tmp_path)
    with pytest.raises(DatasetError, match="YOLO labels are found by their images: give the image directory alone"):
        layout.split("train", SplitFiles("labels", "images/train"))


def test_images_that_are_named_are_looked_for_nowhere_else(tmp_path: Path) -> None:
    write(tmp_path, "all.json", "photos")
    (tmp_path / "empty").mkdir()
    layout = find_layout(tmp_path)
    findings = Findings()
    with pytest.raises(DatasetError, match="there is no file 'im0.png' in .*empty"):
        scan_split(layout.split("train", SplitFiles("all.json", "empty")), findings)
    assert findings.counts["missing_file"] == 3


def test_a_split_that_is_named_and_not_there_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "train/_annotations.coco.json", "train")
    layout: Layout = find_layout(tmp_path, names={"val": "validd"})
    with pytest.raises(
        DatasetError, match=r"data.val \(--val\): .* has no split 'validd'. It has the splits train \(train/_ann"
    ):
        list(layout.splits())


def test_the_reason_given_is_the_split_s_own(tmp_path: Path) -> None:
    write(tmp_path, "train/_annotations.coco.json", "train")
    (tmp_path / "train" / "im0.png").unlink()
    write_json(tmp_path / "valid" / "_annotations.coco.json", annotate(["gone.png"]))
    layout, findings = find_layout(tmp_path), Findings()
    scan_split(layout.split("train"), findings)
    with pytest.raises(DatasetError) as caught:
        scan_split(layout.split("val"), findings)
    assert "no file 'gone.png'" in str(caught.value)
    assert "im0.png" not in str(caught.value)
    assert findings.counts["missing_file"] == 2
