"""What describes a YOLO dataset is read as it is written, whatever tool wrote it, and nothing in it runs."""

from pathlib import Path

import pytest

from rfdetr_hwd.data.findings import DatasetError
from tests.unit.data.yolo_files import BOX, YAML, find, reasons, scan, write_split, write_tree


def names(root: Path) -> list[tuple[int, str]]:
    return list(find(root).description.classes)


def described(tmp_path: Path, yaml: str | bytes, name: str = "data.yaml") -> Path:
    return write_tree(write_split(tmp_path), {name: yaml})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[cat, dog]", ["cat", "dog"]),
        ("\n- cat\n- dog", ["cat", "dog"]),
        ("{0: cat, 1: dog}", ["cat", "dog"]),
        ("\n  '0': cat\n  '1': dog", ["cat", "dog"]),
        ("{1: dog, 0: cat}", ["cat", "dog"]),
        ("[1, 2]", ["1", "2"]),
        ("[yes, no]", ["yes", "no"]),
        ("[On, OFF]", ["On", "OFF"]),
        ("[null, ~]", ["null", "~"]),
        ("[1.0, 1e3]", ["1.0", "1e3"]),
        ("[0x10, 007]", ["0x10", "007"]),
        ("[2024-01-01, 12:30:45]", ["2024-01-01", "12:30:45"]),
        ("[.inf, 1_000]", [".inf", "1_000"]),
        ("['a, b', \"caf\\u00e9: 車\"]", ["a, b", "café: 車"]),
        ("{0: 5, 1: true}", ["5", "true"]),
        ("&n [cat, dog]\nclasses: *n", ["cat", "dog"]),
        ("*n", ["cat", "dog"]),
    ],
)
def test_classes_keep_the_text_that_is_written(tmp_path: Path, text: str, expected: list[str]) -> None:
    before = "x: &n [cat, dog]\n" if text == "*n" else ""
    described(tmp_path, f"{before}train: train/images\nnc: 2\nnames: {text}\n")
    assert names(tmp_path) == list(enumerate(expected))
    data, findings = scan(tmp_path)
    assert data.class_names == tuple(expected)
    assert data.labels.tolist() == [1]
    assert not findings.counts


def test_gaps_between_class_numbers_move_no_class(tmp_path: Path) -> None:
    described(tmp_path, "train: train/images\nnames: {10: ten, 2: two, 1: one}\n")
    data, _ = scan(tmp_path)
    assert (data.class_names, data.category_ids, data.labels.tolist()) == (("one", "two", "ten"), (1, 2, 10), [0])


def test_classes_without_names_are_numbered_and_that_is_said(tmp_path: Path) -> None:
    data, findings = scan(described(tmp_path, "train: train/images\nnc: 3\n"))
    assert data.class_names == ("class_0", "class_1", "class_2")
    assert reasons(findings, "assumed") == ["data.yaml has no names: the 3 classes are called class_0 to class_2"]


def test_another_number_of_classes_is_an_error_that_can_be_accepted(tmp_path: Path) -> None:
    data, findings = scan(described(tmp_path, "train: train/images\nnames: [cat, dog]\nnc: 80\n"))
    assert findings.kinds("error") == ["class_count"]
    assert reasons(findings, "class_count") == ["nc is 80, but names lists 2 classes"]
    assert findings.kinds("error", ["class_count"]) == []
    assert data.class_names == ("cat", "dog")


def test_names_may_lie_in_another_file(tmp_path: Path) -> None:
    described(tmp_path, "train: train/images\nnames: data/obj.names\n")
    write_tree(tmp_path, {"obj.names": "cat\r\nbig dog\r\n\r\n"})
    assert names(tmp_path) == [(0, "cat"), (1, "big dog")]
    described(tmp_path, "train: train/images\n")
    assert names(tmp_path) == [(0, "cat"), (1, "big dog")]


@pytest.mark.parametrize(
    "yaml",
    [
        YAML.encode("utf-16"),
        b"\xef\xbb\xbf" + YAML.encode(),
        YAML.replace("\n", "\r\n").encode(),
        "# набор\n".encode("cp1251") + YAML.encode(),
        ("author: 'наборы'\n").encode("cp1251") + YAML.encode(),
        b"names:\n\t- cat\n\t- dog\nnc:\t2\n",
        b"\x00\x07" + YAML.encode() + b"\x1b",
        YAML.encode() + b"# \xf0\x9f\x9a\x80 comment\n",
        b"NAMES: [cat, dog]\nNc: 2\n",
        b"---\n" + YAML.encode() + b"...\n",
        YAML.encode() + b"download: |\n  import os\n  os.system('touch pwned')\nflip_idx: [1, 0]\nkpt_shape: null\n",
        YAML.encode() + b"train:\nval: # none yet\ntest: null\n",
        YAML.encode() + b"augment: {hsv: [0.1, {deep: [1]}]}\nanchors: [[1, 2], [3, 4]]\n",
    ],
)
def test_files_of_any_encoding_and_with_any_other_keys_are_read(tmp_path: Path, yaml: bytes) -> None:
    data, findings = scan(described(tmp_path, yaml))
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [1]
    assert findings.kinds("error") == []
    assert not (Path.cwd() / "pwned").exists()


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("names: cat\n", "names must list the classes, not 'cat'"),
        ("names: []\n", "names must list the classes, not []"),
        ("names: [[cat], [dog]]\n", "names holds an entry that is a list or a mapping (line 1), not text"),
        ("names: {cat: 0, dog: 1}\n", "names must give a name to each class number, as `0: cat`, not to 'cat'"),
        ("names: {0: cat, 00: dog}\n", "names has the class number 0 twice"),
        ("names: {0: cat, 0: dog}\n", "duplicate key '0' in names (line 1)"),
        (f"{YAML}names: [cow]\n", "duplicate key 'names' (line 3)"),
        (f"{YAML}Train: a\ntrain: b\n", "duplicate key 'train'"),
        (f"{YAML}train: {{a: 1}}\n", "train must be a directory or a list of directories, not {'a': '1'}"),
        (f"{YAML}path: [a]\n", "path must be a directory, not ['a']"),
        (f"{YAML}kpt_shape: [17, 4]\n", "kpt_shape must be [number of keypoints, 2 or 3], not ['17', '4']"),
        (f"{YAML}kpt_shape: many\n", "kpt_shape must be"),
        ("names: !!python/object/apply:os.system [x]\n", "names has the tag 'tag:yaml.org,2002:python/object"),
        ("names: [!!python/name:os.system x]\n", "names holds an entry that has the tag"),
        ("names: [!cat x]\n", "names holds an entry that has the tag '!cat'"),
        ("- names\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("names: [cat\n", "is not valid YAML"),
        ("names: " + "[" * 5000, "is not valid YAML"),
        ("nc: 99999999999\n", "names must list the classes, not None"),
        ("x: &x [*x]\nnames: *x\n", "names holds an entry that is a list"),
        ("names: ['" + "x" * (1 << 20) + "']\n", "it is larger than 1 MiB"),
        ("names: [кот]\n".encode("cp1251"), "names is not UTF-8 text (line 1): save it as UTF-8"),
    ],
)
def test_a_broken_description_is_refused_by_name(tmp_path: Path, yaml: str | bytes, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        find(described(tmp_path, yaml))
    assert message in str(caught.value)
    assert "data.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("yaml", "kind", "message"),
    [
        ("names: [cat, cat]\n", "duplicate_category", "the name 'cat' is listed twice"),
        ("names: [cat, '']\n", "bad_category", "name must be text, not ''"),
        (f"names: [cat, 0x{'f' * 5000}]\n", "bad_category", "name must be text"),
    ],
)
def test_broken_names_are_named(tmp_path: Path, yaml: str, kind: str, message: str) -> None:
    _, findings = scan(described(tmp_path, yaml))
    assert findings.kinds("error") == [kind]
    assert message in str(findings.examples[kind][0])
    assert "data.yaml" in str(findings.examples[kind][0])


def test_aliases_cost_nothing(tmp_path: Path) -> None:
    laughs = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9 if i else ['ha'] * 9)}]\n" for i in range(30))
    assert names(described(tmp_path, laughs + YAML)) == [(0, "cat"), (1, "dog")]
    with pytest.raises(DatasetError, match="names holds an entry that is a list"):
        find(described(tmp_path, laughs + "names: *l29\n"))


@pytest.mark.parametrize("name", ["custom.yaml", "my set.yml", "COCO8.YAML", "cfg/custom.yaml", "set/sub/data.yaml"])
def test_a_yaml_of_any_name_near_the_root_describes_the_dataset(tmp_path: Path, name: str) -> None:
    write_tree(
        tmp_path, {"hyp.yaml": "lr0: 0.01\n", "yolov5s.yaml": "nc: 80\nbackbone: []\n", "broken.yaml": "train: ["}
    )
    data, findings = scan(described(tmp_path, f"train: train/images\n{YAML}", name))
    assert data.class_names == ("cat", "dog")
    assert data.file_names.tolist() == ["train/images/a.png"]
    assert not findings.counts
    assert find(tmp_path).description.where == tmp_path / name


def test_a_usual_name_is_chosen_among_several_and_the_others_are_named(tmp_path: Path) -> None:
    described(tmp_path, f"train: train/images\n{YAML}")
    described(tmp_path, "train: train/images\nnames: [x, y, z]\n", "other.yaml")
    found = find(tmp_path)
    assert found.description.where.name == "data.yaml"
    assert found.notes == ("other.yaml is not used: data.yaml is",)


def test_the_yaml_whose_images_are_there_is_chosen(tmp_path: Path) -> None:
    described(tmp_path, f"train: gone/pictures\n{YAML}", "a.yaml")
    described(tmp_path, "train: train/images\nnames: [x, y]\n", "b.yaml")
    assert find(tmp_path).description.where.name == "b.yaml"
    described(tmp_path, "train: [train/images]\nnames: {0: x, 1: y}\n", "c.yaml")  # which says the same
    assert find(tmp_path).description.where.name == "b.yaml"
    described(tmp_path, "train: train/images\nnames: [y, x]\n", "d.yaml")
    with pytest.raises(
        DatasetError, match=r"several descriptions .*: b\.yaml, c\.yaml, d\.yaml\. They differ: keep one"
    ):
        find(tmp_path)


def test_a_copy_of_anothers_yaml_further_down_describes_nothing(tmp_path: Path) -> None:
    write_split(tmp_path)
    write_tree(tmp_path, {"classes.txt": "cat\ndog\n", "yolov5/data/coco.yaml": "train: ../coco/t\nnames: [person]\n"})
    found = find(tmp_path)
    assert found.description.where.name == "classes.txt"
    assert found.notes == ("yolov5/data/coco.yaml is not used: the training images that it names are not there",)


DARKNET = "classes= 2\ntrain  = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\nbackup = backup/\n"


def test_darknet_files_of_cvat_are_read(tmp_path: Path) -> None:
    """CVAT writes paths that begin with `data/` and puts the files without it."""
    files = {
        f"obj_{split}_data/{split}.{suffix}": text
        for split in ("train", "valid")
        for suffix, text in (("png", None), ("txt", BOX))
    }
    lists = {f"{split}.txt": f"data/obj_{split}_data/{split}.png\n" for split in ("train", "valid")}
    write_tree(tmp_path, {**files, **lists, "obj.data": DARKNET, "obj.names": "cat\ndog\n"})
    for role, split in (("train", "train"), ("val", "valid")):
        data, findings = scan(tmp_path, role)
        assert data.file_names.tolist() == [f"obj_{split}_data/{split}.png"]
        assert data.boxes_xywh.tolist() == [[15, 5, 10, 10]]
        assert data.class_names == ("cat", "dog")
        assert findings.kinds("error") == []
        assert f"{split}.txt: 1 entries are not there, and files of their names are read" in str(
            reasons(findings, "assumed")
        )


def test_darknet_files_of_roboflow_are_read(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        write_tree(tmp_path / split, {"_darknet.labels": "cat\ndog\n", "a.png": None, "a.txt": BOX})
    for role in ("train", "val"):
        data, findings = scan(tmp_path, role)
        assert (data.class_names, len(data), len(data.labels)) == (("cat", "dog"), 1, 1)
        assert not findings.counts


def test_lists_of_classes_that_differ_are_asked_about(tmp_path: Path) -> None:
    write_tree(write_split(tmp_path), {"classes.txt": "cat\ndog\n", "train/labels/classes.txt": "dog\ncat\n"})
    with pytest.raises(DatasetError, match="several lists of classes, which differ: classes.txt, train/labels/classes"):
        find(tmp_path)
