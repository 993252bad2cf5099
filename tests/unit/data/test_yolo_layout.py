"""Splits of YOLO datasets are found where descriptions say, or else where they are; what is assumed is said."""

import os
from pathlib import Path

import pytest

from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.known_layouts import LAYOUTS, KnownLayout
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.yolo.layout import find_yolo_splits
from tests.unit.data.pictures import HEIGHT, WIDTH, box_of, draw, num_right
from tests.unit.data.yolo_files import BOX, YAML, find, reasons, scan, write_split, write_tree


def images(root: Path) -> dict[str, list[str]]:
    return {role: list(split.images) for role, split in find(root).found.items()}


def notes(root: Path, role: str = "train") -> tuple[str, ...]:
    return find(root).found[role].notes  # type: ignore[index]


def with_yaml(root: Path, entries: str, *places: str) -> Path:
    write_tree(root, {"data.yaml": entries.replace("@ROOT@", str(root)) + YAML})
    for place in places:
        write_split(root, place, place.replace("images", "labels"))
    return root


@pytest.mark.parametrize(
    ("entries", "place"),
    [
        ("train: train/images\n", "train/images"),
        ("train: ./train/images/\n", "train/images"),
        ("train: train\n", "train/images"),
        ("train: ../train/images\n", "train/images"),  # Roboflow
        ("train: images/train\n", "images/train"),
        ("path: .\ntrain: images/train\n", "images/train"),
        ("path: ''\ntrain: images/train\n", "images/train"),
        ("path: sub\ntrain: images/train\n", "sub/images/train"),
        ("path: ./sub/\ntrain: images/train\n", "sub/images/train"),
        ("path: named_elsewhere\ntrain: images/train\n", "images/train"),  # rfdetr: where there is no such directory
        ("path: @ROOT@\ntrain: images/train\n", "images/train"),
        ("path: @ROOT@/sub\ntrain: images/train\n", "sub/images/train"),
        ("train: @ROOT@/train/images\n", "train/images"),
        ("train: @ROOT@/x/../train/images\n", "train/images"),
        ("train: [train/images]\n", "train/images"),
        ("train:\n  - train/images\n", "train/images"),
        ("train: train\\images\n", "train/images"),
        ("train: .\\train\\images\n", "train/images"),
        ('train: "..\\train\\images"\n', "train/images"),
        ("train: images/train/a.png\n", "images/train"),
        ("train: .\n", "any/images"),
        ("Train: train/images\n", "train/images"),
        ("training: train/images\n", "train/images"),
    ],
)
def test_paths_mean_what_ultralytics_and_rfdetr_read(tmp_path: Path, entries: str, place: str) -> None:
    with_yaml(tmp_path, entries, place)
    assert images(tmp_path) == {"train": [f"{place}/a.png"]}
    assert find(tmp_path).found["train"].notes == ()
    data, findings = scan(tmp_path)
    assert data.boxes_xywh.tolist() == [[15, 5, 10, 10]]
    assert not findings.counts


@pytest.mark.parametrize(
    ("entries", "place", "note"),
    [
        ("train: D:/2026/set/train/images\n", "train/images", "'D:/2026/set/train/images' is not there; train/images"),
        ("train: D:\\set\\train\\images\n", "train/images", "train/images is read"),
        ('train: "D:\\set\\train\\images"\n', "train/images", "'D:/set/train/images' is not there"),
        ("train: \\\\server\\share\\images\\train\n", "images/train", "images/train is read"),
        ("train: /content/set/train/images\n", "train/images", "'/content/set/train/images' is not there"),
        ("train: /train/images\n", "train/images", "train/images is read"),
        ("path: /sets/coco8\ntrain: images/train\n", "images/train", "'images/train' below '/sets/coco8' is not there"),
        ("path: D:\\datasets\ntrain: images/train\n", "images/train", "images/train is read"),
        ("path: ../datasets/coco8\ntrain: images/train\n", "coco8/images/train", "coco8/images/train is read"),
        ("train: Images/TRAIN\n", "images/train", "images/train is read"),
        ("train: train/images\n", "images/train", "names train: 'train/images' is not there; images/train is read"),
        ("train: /train/images\n", "dataset/train/images", "dataset/train/images is read"),
        ("", "train/images", "data.yaml names no train; train/images is read"),
        ("", "images/Train2017", "data.yaml names no train; images/Train2017 is read"),
        ("train: https://host/set.zip\n", "train/images", "is a URL, and URLs are not downloaded; train/images is"),
    ],
)
def test_paths_of_another_machine_mean_what_is_here_and_that_is_said(
    tmp_path: Path, entries: str, place: str, note: str
) -> None:
    with_yaml(tmp_path, f"{entries}val: empty\n", place)
    assert images(tmp_path) == {"train": [f"{place}/a.png"]}
    assert note in " ".join(notes(tmp_path))
    data, findings = scan(tmp_path)
    assert data.boxes_xywh.tolist() == [[15, 5, 10, 10]]
    assert set(findings.counts) == {"assumed"}
    assert note in " ".join(reasons(findings, "assumed"))


@pytest.mark.parametrize("key", ["val", "valid", "validation", "Validation", "VALID"])
@pytest.mark.parametrize("place", ["holdout/images", "images/val", "valid/images"])
def test_validation_has_several_names(tmp_path: Path, key: str, place: str) -> None:
    with_yaml(tmp_path, f"train: train/images\n{key}: {place}\n", "train/images", place)
    assert images(tmp_path) == {"train": ["train/images/a.png"], "val": [f"{place}/a.png"]}


def test_a_split_that_is_named_and_not_there_is_said(tmp_path: Path) -> None:
    with_yaml(tmp_path, "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n", "train/images")
    found = find(tmp_path)
    assert set(found.found) == {"train"}
    assert found.missing == {
        "val": f"data.yaml names val: '../valid/images' is not in {tmp_path}, nor is anything of its name",
        "test": f"data.yaml names test: '../test/images' is not in {tmp_path}, nor is anything of its name",
    }
    assert found.notes == tuple(found.missing.values())
    with pytest.raises(DatasetError, match=r"has no val split: data\.yaml names val: '../valid/images' is not in"):
        read_split(find_layout(tmp_path).split("val"))


def test_a_part_that_is_named_and_not_there_is_an_error_to_accept(tmp_path: Path) -> None:
    with_yaml(tmp_path, "train: [part1/images, part2/images]\n", "part1/images", "part3/images")
    data, findings = scan(tmp_path)
    assert findings.kinds("error") == ["missing_part"]
    assert reasons(findings, "missing_part") == ["data.yaml names train: 'part2/images' is not there"]
    assert data.file_names.tolist() == ["part1/images/a.png"]
    assert find(tmp_path).notes == ("part3/images holds 1 images, some of them labelled, that are in no split",)


def test_a_guess_takes_no_images_of_another_split(tmp_path: Path) -> None:
    write_tree(tmp_path, {"data.yaml": f"train: D:/set/train/images\nval: D:/set/valid/images\n{YAML}"})
    write_split(tmp_path, "images", "labels")
    with pytest.raises(DatasetError, match="'D:/set/train/images' is not in"):
        read_split(find_layout(tmp_path).split("train"))
    write_tree(tmp_path, {"data.yaml": f"train: D:/set/images\nval: E:/other/images\n{YAML}"})
    assert images(tmp_path) == {}
    assert find(tmp_path).missing["val"].endswith("images is read, but those are images of train")


@pytest.mark.parametrize("role", ["train", "val"])
def test_one_directory_may_be_named_for_two_splits(tmp_path: Path, role: str) -> None:
    with_yaml(tmp_path, "train: images\nval: images\n", "images")
    assert images(tmp_path)[role] == ["images/a.png"]


@pytest.mark.parametrize(
    ("line", "image"),
    [
        ("./images/a.png", "images/a.png"),
        ("images/a.png", "images/a.png"),
        ("../lists/images/a.png", "lists/images/a.png"),
        ("@ROOT@/images/a.png", "images/a.png"),
        ("images\\a.png", "images/a.png"),
        ("'images/a.png'", "images/a.png"),
        ("images/a.png ", "images/a.png"),
    ],
)
def test_lists_of_images_are_read_from_their_place_or_the_root(tmp_path: Path, line: str, image: str) -> None:
    lines = f"\ufeff{line.replace('@ROOT@', str(tmp_path))}\r\n\r\n"
    write_tree(tmp_path, {"data.yaml": f"train: lists/train.txt\n{YAML}", "lists/train.txt": lines})
    write_split(tmp_path, image.rpartition("/")[0], image.rpartition("/")[0].replace("images", "labels"))
    assert images(tmp_path) == {"train": [image]}
    data, findings = scan(tmp_path)
    assert data.boxes_xywh.tolist() == [[15, 5, 10, 10]]
    assert not findings.counts


def test_lists_of_another_machine_are_read_and_what_is_missing_is_named(tmp_path: Path) -> None:
    lines = "/data/me/images/a.png\n/data/me/images/b.png\n/data/me/images/c.png\nD:\\x\\images\\d.png\n../e.png\n"
    lines += "/data/me/images/a.png\nq.gif\n"
    write_tree(tmp_path, {"data.yaml": f"train: train.txt\n{YAML}", "train.txt": lines})
    for stem in "abd":
        write_split(tmp_path, "images", "labels", stem)
    data, findings = scan(tmp_path)
    assert data.file_names.tolist() == [f"images/{stem}.png" for stem in "abd"]
    assert [str(f) for f in findings.examples["missing_file"]] == [
        f"{tmp_path}/train.txt: line 3: there is no file 'images/c.png' in {tmp_path}"
    ]
    assert reasons(findings, "unsafe_path") == [f"'../e.png' is not in {tmp_path}, nor is anything of its name"]
    assert reasons(findings, "bad_image") == ["must be the path of an image and nothing else, not 'q.gif'"]
    guessed, repeated = reasons(findings, "assumed")
    assert guessed.startswith("train.txt: 4 entries are not there, and files of their names are read: images/a.png for")
    assert repeated == "train.txt: 1 entries repeat an image: each image is used once"


def test_entries_of_one_name_do_not_become_one_image(tmp_path: Path) -> None:
    write_tree(tmp_path, {"data.yaml": f"train: train.txt\n{YAML}", "train.txt": "/x/1/a.png\n/x/2/a.png\n"})
    write_tree(tmp_path, {"a.png": None, "a.txt": BOX})
    data, findings = scan(tmp_path)
    assert data.file_names.tolist() == ["a.png"]
    (reason,) = reasons(findings, "missing_file")
    assert reason == "'/x/2/a.png' is not there; a.png, of the same name, is that of '/x/1/a.png'"


def test_paths_out_of_the_dataset_are_not_followed_and_the_message_is_true(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_split(tmp_path, "outside/images", "outside/labels")
    for entry in ("../outside/images", "../../outside/images", str(tmp_path / "outside/images"), "../none/images"):
        with pytest.raises(DatasetError, match=r"has no train split: data.yaml names train: ") as caught:
            read_split(find_layout(with_yaml(root, f"train: {entry}\n")).split("train"))
        assert f"{entry!r} is not in {root}" in str(caught.value)  # whether there is such a directory or not
    for name in ("../outside/images/a.png", str(tmp_path / "outside/images/a.png"), "../outside/images/none.png"):
        write_tree(with_yaml(root, "train: list.txt\n"), {"list.txt": f"{name}\n"})
        with pytest.raises(DatasetError, match=r"list.txt lists no image that is there: line 1: .* is not in"):
            read_split(find_layout(root).split("train"))
    (root / "deep").mkdir()
    os.symlink(tmp_path / "outside", root / "deep" / "link")
    with pytest.raises(DatasetError, match=f"'deep/link/images' is a link out of {root}, which is not followed"):
        read_split(find_layout(with_yaml(root, "train: deep/link/images\n")).split("train"))


def test_a_directory_without_images_that_are_read_is_said_to_be_there(tmp_path: Path) -> None:
    with_yaml(tmp_path, "train: train/images\nval: val/images\n", "train/images")
    write_tree(tmp_path, {"val/images/a.heic": None, "val/images/b.heic": None, "val/images/c.txt": BOX})
    assert find(tmp_path).missing == {
        "val": "data.yaml names val: 'val/images' holds no image of a format that is read, but other files: "
        "2 .heic, 1 .txt"
    }
    write_tree(tmp_path, {"train/images/x.gif": None, "train/images/y.HEIC": None, "train/images/z.heic": None})
    _, findings = scan(tmp_path)
    assert reasons(findings, "unlisted_image") == [
        f"1 files with {suffix} are not read: convert them to JPEG or PNG" for suffix in (".HEIC", ".gif", ".heic")
    ]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train/images", "valid/images"),
        ("Train/images", "Validation/images"),
        ("images/train", "images/val"),
        ("images/train2017", "images/val2017"),
        ("set/images/train", "set/images/val"),
        ("train", "val"),
        ("TRAIN", "VAL"),
        ("Images/Train", "Images/Val"),
    ],
)
def test_without_a_description_directories_say_what_they_are_for(tmp_path: Path, train: str, val: str) -> None:
    for place in (train, val):
        write_split(tmp_path, place, place.replace("images", "labels").replace("Images", "Labels"))
    write_tree(tmp_path, {"classes.txt": "cat\ndog\n"})
    assert images(tmp_path) == {"train": [f"{train}/a.png"], "val": [f"{val}/a.png"]}
    for role in ("train", "val"):
        data, findings = scan(tmp_path, role)  # type: ignore[arg-type]
        assert data.class_names == ("cat", "dog")
        assert data.boxes_xywh.tolist() == [[15, 5, 10, 10]]
        assert findings.kinds("error") == []


def test_a_list_of_classes_in_another_encoding_is_refused_with_what_to_do(tmp_path: Path) -> None:
    write_tree(
        tmp_path, {"images/a.png": None, "labels/a.txt": "0 0.5 0.5 0.2 0.2\n", "classes.txt": "猫狗\n".encode("gbk")}
    )
    with pytest.raises(
        DatasetError, match=r"classes.txt: it is not UTF-8 text: line 1 .*; save it as UTF-8, .*`iconv -f GBK"
    ):
        find_layout(tmp_path)


@pytest.mark.parametrize("classes", ["classes.txt", "labels/classes.txt", "obj.names", "my.names"])
def test_label_studios_export_is_one_split(tmp_path: Path, classes: str) -> None:
    write_split(tmp_path, "images", "labels", "8f1-photo 1")
    write_tree(tmp_path, {classes: "cat\ndog", "notes.json": '{"categories": []}'})
    assert find_layout(tmp_path).format == "yolo"
    assert images(tmp_path) == {"train": ["images/8f1-photo 1.png"]}
    data, findings = scan(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [1]
    assert not findings.counts


def test_labels_without_any_names_are_numbered_and_that_is_said(tmp_path: Path) -> None:
    """Make Sense writes labels alone, to be put beside the images."""
    write_tree(tmp_path, {"a.png": None, "a.txt": BOX, "b.png": None, "b.txt": "3 0.5 0.5 0.1 0.1\n"})
    data, findings = scan(tmp_path)
    assert data.class_names == ("class_0", "class_1", "class_2", "class_3")
    assert data.labels.tolist() == [1, 3]
    assert reasons(findings, "assumed") == [
        "no file, such as classes.txt, names the classes: they are called class_0 to class_3"
    ]


@pytest.mark.parametrize(
    "files",
    [
        {"a.png": None},
        {"a.png": None, "a.txt": "a photo of two cats on a sofa\n"},
        {"a.png": None, "classes.txt": "cat\n"},
        {"images/a.png": None, "labels/b.txt": BOX, "README.txt": "hello\n"},
        {"a.txt": BOX},
        {"a.png": None, "list.txt": "a.png 1,2,3,4,0\n"},
        {"config.yaml": "train: {epochs: 3}\nval: 1\n"},
    ],
)
def test_what_is_no_yolo_dataset_is_none(tmp_path: Path, files: dict[str, str | None]) -> None:
    write_tree(tmp_path, files)
    assert find_yolo_splits(tmp_path, FileList.scan(tmp_path)) is None


def test_a_split_that_the_user_names(tmp_path: Path) -> None:
    with_yaml(tmp_path, "train: train/images\n", "train/images", "fold3/images")
    files = FileList.scan(tmp_path)
    found = find_yolo_splits(tmp_path, files, {"val": "fold3/images"})
    assert found
    assert found.found["val"].images == ("fold3/images/a.png",)
    found = find_yolo_splits(tmp_path, files, {"val": "fold4"})
    assert found
    assert found.missing == {"val": "data.yaml names val: 'fold4' is not there"}


def test_images_of_a_test_directory_without_labels_are_no_split(tmp_path: Path) -> None:
    with_yaml(tmp_path, "train: train/images\n", "train/images")
    write_tree(tmp_path, {"test_videos/a.png": None})
    assert images(tmp_path) == {"train": ["train/images/a.png"]}


def describe(name: str, row: KnownLayout, splits: tuple[str, ...]) -> str:
    """Return what a file of a row that describes the dataset holds: a YAML, Darknet's lines, or names of classes."""
    is_listed = "SPLIT.txt" in row.annotations
    paths = [f"{split}.txt" if is_listed else row.images.replace("SPLIT", split).rstrip("/") for split in splits]
    entries = list(zip(("train", "val"), paths, strict=False))
    if name.endswith(".yaml"):
        return "".join(f"{key}: {path}\n" for key, path in entries) + "names: [cat]\n"
    if name.endswith(".data"):
        return "".join(f"{key} = data/{path}\n" for key, path in entries) + "names = data/obj.names\n"
    return "cat\n"


def write_layout(root: Path, row: KnownLayout, splits: tuple[str, ...]) -> None:
    """Write three pictures a split, and what a row of the table says of them."""
    for start, split in enumerate(splits):
        place = row.images.replace("SPLIT", split).replace("./", "")
        numbers = range(10 * start, 10 * start + 3)
        for number in numbers:
            draw(root / f"{place}im{number}.png", number)
        for part in row.annotations.replace("NAME", "coco8").split(", "):
            name = part.replace("SPLIT", split)
            for number in numbers if "*" in name else ():
                x, y, w, h = box_of(number)
                line = f"0 {(x + w / 2) / WIDTH} {(y + h / 2) / HEIGHT} {w / WIDTH} {h / HEIGHT}\n"
                write_tree(root, {name.replace("*", f"im{number}"): line})
            if part == "SPLIT.txt":
                write_tree(root, {name: "".join(f"data/{place}im{number}.png\n" for number in numbers)})
            elif "*" not in name:
                write_tree(root, {name: describe(name, row, splits)})


@pytest.mark.parametrize("spelling", [("train", "valid"), ("Train", "Validation"), ("TRAINING", "val")])
@pytest.mark.parametrize("row", [row for row in LAYOUTS if row.format == "yolo"], ids=lambda row: row.annotations)
def test_each_layout_of_the_table_is_read_exactly(tmp_path: Path, row: KnownLayout, spelling: tuple[str, str]) -> None:
    splits = spelling if "SPLIT" in row.annotations else ("train",)
    write_layout(tmp_path / "below", row, splits)
    for root in (tmp_path / "below", tmp_path):
        layout = find_layout(root)
        assert layout.format == "yolo"
        data = {str(split.role): read_split(split) for split in layout.splits()}
        expected = {"train": (3, 3), "val": (3, 3)} if "SPLIT" in row.annotations else {"train": (3, 3)}
        assert {role: (len(split), num_right(split)) for role, split in data.items()} == expected
