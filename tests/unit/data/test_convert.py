"""Conversions keep every box, class and image, agree with supervision's loaders, and refuse hostile files."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml

from rfdetr_hwd.data.convert import coco_to_yolo, voc_to_coco, yolo_to_coco
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.source import find_layout, read_split

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import supervision as sv


def save(path: Path, width: int = 64, height: int = 48, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (width, height), (90, 120, 30)).save(path, **options)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def boxes(root: Path) -> dict[str, dict[str, list[tuple[str, list[float]]]]]:
    """{split: {file name: [(class, xywh), ...]}} of a Roboflow COCO dataset."""
    found: dict[str, dict[str, list[tuple[str, list[float]]]]] = {}
    for path in sorted(root.glob("*/_annotations.coco.json")):
        content = json.loads(path.read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        by_id = {image["id"]: image["file_name"] for image in content["images"]}
        found[path.parent.name] = {name: [] for name in by_id.values()}
        for a in content["annotations"]:
            found[path.parent.name][by_id[a["image_id"]]].append((names[a["category_id"]], a["bbox"]))
    return found


def write_coco(root: Path, seed: int = 0) -> Path:
    """Two splits, odd sizes, boxes of uneven numbers, an image without objects, category ids with gaps."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", 12), ("valid", 5)):
        images, annotations = [], []
        for number in range(count):
            width, height = (int(side) for side in rng.integers(40, 1500, 2))
            name = f"deep/{number}.jpg" if number % 4 == 1 else f"{number}.v1.jpg"
            save(root / split / name, width, height)
            images.append({"id": 50 - number, "file_name": name, "width": width, "height": height})
            for _ in range(0 if number == 3 else int(rng.integers(1, 8))):
                w, h = rng.uniform(0.3, 30, 2).tolist()
                x, y = float(rng.uniform(0, width - w)), float(rng.uniform(0, height - h))
                label = int(rng.choice([18, 4, 77]))
                box = {"bbox": [x, y, w, h], "area": w * h / 2, "iscrowd": 0}
                annotations.append({"id": len(annotations), "image_id": 50 - number, "category_id": label, **box})
        categories = [{"id": 77, "name": "Katze"}, {"id": 4, "name": "on: 1"}, {"id": 18, "name": "車"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def test_coco_to_yolo_and_back_keeps_every_box_to_a_millionth(tmp_path: Path) -> None:
    source = write_coco(tmp_path / "coco")
    written = coco_to_yolo(source, tmp_path / "yolo")
    before = boxes(source)
    assert [(split.name, split.images, split.notes) for split in written] == [("train", 12, {}), ("valid", 5, {})]
    yolo_to_coco(tmp_path / "yolo", tmp_path / "back")
    after = boxes(tmp_path / "back")
    assert after.keys() == before.keys() == {"train", "valid"}
    for split, images in before.items():
        assert after[split].keys() == images.keys()
        for name, expected in images.items():
            assert [label for label, _ in after[split][name]] == [label for label, _ in expected]
            for (_, a), (_, b) in zip(after[split][name], expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-6)
    categories = json.loads((tmp_path / "back/train/_annotations.coco.json").read_text())["categories"]
    assert categories == [{"id": 1, "name": "on: 1"}, {"id": 2, "name": "車"}, {"id": 3, "name": "Katze"}]


@pytest.mark.parametrize("folder", ["train_images", "images", "images/images", "my images/x"])
def test_labels_are_found_again_whatever_the_folders_are_called(tmp_path: Path, folder: str) -> None:
    write_coco(tmp_path / "in")
    path = tmp_path / "in" / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    (path.parent / folder).mkdir(parents=True)
    for image in content["images"]:
        name = Path(image["file_name"]).name
        (path.parent / image["file_name"]).rename(path.parent / folder / name)
        image["file_name"] = f"{folder}/{name}"
    path.write_text(json.dumps(content))
    (written, *_) = coco_to_yolo(tmp_path / "in", tmp_path / "out")
    read = read_split(find_layout(tmp_path / "out").split("train"))
    assert len(read.labels) == written.objects > 0


def test_the_yolo_dataset_is_laid_out_as_others_expect(tmp_path: Path) -> None:
    coco_to_yolo(write_coco(tmp_path / "coco"), tmp_path / "yolo")
    assert yaml.safe_load((tmp_path / "yolo/data.yaml").read_text(encoding="utf-8")) == {
        "train": "train/images",
        "val": "valid/images",
        "nc": 3,
        "names": ["on: 1", "車", "Katze"],
    }
    names = {"train": [f"deep/{n}" if n % 4 == 1 else f"{n}.v1" for n in range(12)]}
    names["valid"] = names["train"][:5]
    expected = {f"{s}/images/{n}.jpg" for s in names for n in names[s]}
    expected |= {f"{s}/labels/{n}.txt" for s in names for n in names[s]} | {"data.yaml"}
    assert files(tmp_path / "yolo") == expected
    assert (tmp_path / "yolo/train/labels/3.v1.txt").read_text() == ""
    # supervision reads one flat folder: the images in `deep` are not seen by it
    seen = sv.DetectionDataset.from_yolo(
        *(str(tmp_path / "yolo" / part) for part in ("valid/images", "valid/labels", "data.yaml"))
    )
    mine = boxes(tmp_path / "coco")["valid"]
    assert seen.classes == ["on: 1", "車", "Katze"]
    assert {Path(path).name for path in seen.image_paths} == {name for name in mine if "/" not in name}
    for path, found in seen.annotations.items():
        expected_boxes = [[x, y, x + w, y + h] for _, (x, y, w, h) in mine[Path(path).name]]
        np.testing.assert_allclose(found.xyxy, np.reshape(expected_boxes, (-1, 4)), atol=1e-3)
        if expected_boxes:
            assert [seen.classes[i] for i in found.class_id] == [label for label, _ in mine[Path(path).name]]


def test_supervision_reads_the_same_from_what_yolo_to_coco_writes(tmp_path: Path) -> None:
    root = tmp_path / "yolo"
    save(root / "train/images/a.png")
    save(root / "train/images/b.png")
    (root / "train/labels").mkdir()
    (root / "train/labels/a.txt").write_text("2 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.3 0.1 0.4 0.6\n")
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: {0: x, 1: y, 2: z}\n")
    written = yolo_to_coco(root, tmp_path / "coco")
    assert written == [("train", 2, 2, {"images without objects": 1})]
    assert files(tmp_path / "coco") == {"train/a.png", "train/b.png", "train/_annotations.coco.json"}
    content = json.loads((tmp_path / "coco/train/_annotations.coco.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}, {"id": 3, "name": "z"}]
    found = boxes(tmp_path / "coco")["train"]
    assert [label for label, _ in found["a.png"]] == ["z", "x"]
    np.testing.assert_allclose(found["a.png"][0][1], [24, 12, 16, 24])
    np.testing.assert_allclose(found["a.png"][1][1], [6.4, 4.8, 19.2, 24])  # the polygon's box
    assert found["b.png"] == []
    seen = sv.DetectionDataset.from_coco(
        str(tmp_path / "coco/train"), str(tmp_path / "coco/train/_annotations.coco.json")
    )
    assert seen.classes == ["x", "y", "z"]
    by_name = {Path(path).name: found for path, found in seen.annotations.items()}
    np.testing.assert_allclose(by_name["a.png"].xyxy, [[24, 12, 40, 36], [6.4, 4.8, 25.6, 28.8]], rtol=1e-6)
    assert by_name["a.png"].class_id.tolist() == [2, 0]


def test_gaps_in_the_ids_of_data_yaml_move_no_class(tmp_path: Path) -> None:
    save(tmp_path / "in/train/images/a.png")
    (tmp_path / "in/train/labels").mkdir()
    (tmp_path / "in/train/labels/a.txt").write_text("10 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.5 0.5\n")
    (tmp_path / "in/data.yaml").write_text("train: train/images\nnames: {10: ten, 2: two, 0: nought}\n")
    yolo_to_coco(tmp_path / "in", tmp_path / "out")
    assert boxes(tmp_path / "out")["train"]["a.png"] == [("ten", [16, 12, 32, 24]), ("two", [16, 12, 32, 24])]


def test_what_yolo_cannot_hold_is_left_out_and_counted(tmp_path: Path) -> None:
    save(tmp_path / "in/train/a.png")
    annotations = [
        {"bbox": [-6, 0, 12, 24], "iscrowd": 0},
        {"bbox": [0, 0, 64, 48], "iscrowd": 1},
        {"bbox": [10, 10, 0, 5], "iscrowd": 0},
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "categories": [{"id": 5, "name": "x"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": 5, **a} for i, a in enumerate(annotations)],
    }
    (tmp_path / "in/train/_annotations.coco.json").write_text(json.dumps(content))
    (split,) = coco_to_yolo(tmp_path / "in", tmp_path / "out")
    assert (split.objects, split.notes) == (
        1,
        {
            "boxes clipped to the image": 1,
            "crowd regions left out": 1,
            "boxes without area in the image left out": 1,
        },
    )
    assert (tmp_path / "out/train/labels/a.txt").read_text() == "0 0.046875 0.25 0.09375 0.5\n"


def test_images_that_would_share_a_label_file_are_refused(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(("a.png", "a.jpg"))]
    for image in images:
        save(tmp_path / "in/train" / str(image["file_name"]))
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5]}
    content = {"images": images, "categories": [{"id": 1, "name": "x"}], "annotations": [box]}
    (tmp_path / "in/train/_annotations.coco.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"'a.png' and 'a.jpg' of train would share a label file"):
        coco_to_yolo(tmp_path / "in", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.1", "7 0.5 0.5 0.1 0.1", "0 nan 0.5 0.1 0.1", "x 0.5 0.5 0.1 0.1"])
def test_bad_label_lines_are_refused(tmp_path: Path, line: str) -> None:
    save(tmp_path / "in/train/images/a.png")
    (tmp_path / "in/train/labels").mkdir()
    (tmp_path / "in/train/labels/a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    (tmp_path / "in/data.yaml").write_text("train: train/images\nnames: [x]\n")
    with pytest.raises(DatasetError, match=r"a\.txt"):
        yolo_to_coco(tmp_path / "in", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def voc_xml(
    *objects: tuple[str, object, object, object, object], size: str = "<width>64</width><height>48</height>"
) -> str:
    parts = "".join(
        f"<object><name>{name}</name><difficult>{int(name == 'dog')}</difficult><bndbox><xmin>{x0}</xmin>"
        f"<ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
        for name, x0, y0, x1, y1 in objects
    )
    return f"<annotation><filename>../../etc/passwd</filename><size>{size}</size>{parts}</annotation>"


def write_voc(root: Path) -> Path:
    for name in ("a", "b", "c", "d"):
        save(root / "JPEGImages" / f"{name}.jpg")
    (root / "Annotations").mkdir()
    (root / "Annotations/a.xml").write_text(voc_xml(("dog", 1, 1, 64, 48), ("cat", 11, 21, 20, 30)))
    (root / "Annotations/b.xml").write_text(voc_xml(("cat", "5.5", 6, "9.25", 8), size=""))
    (root / "Annotations/c.xml").write_text(voc_xml(("ant", 30, 8, 3, 4), size="<width>9</width><height>9</height>"))
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("b\na  1\n")
    (root / "ImageSets/Main/val.txt").write_text("c\nd\n")
    (root / "ImageSets/Main/dog_train.txt").write_text("a -1\n")
    return root


def test_voc_boxes_by_hand(tmp_path: Path) -> None:
    """1-based, inclusive: a box from pixel 11 to pixel 20 is ten wide and begins at 10."""
    written = voc_to_coco(write_voc(tmp_path / "voc"), tmp_path / "out")
    assert boxes(tmp_path / "out") == {
        "train": {
            "b.jpg": [("cat", [4.5, 5, 4.75, 3])],
            "a.jpg": [("dog", [0, 0, 64, 48]), ("cat", [10, 20, 10, 10])],
        },
        "valid": {"c.jpg": [("ant", [2, 3, 28, 5])], "d.jpg": []},
    }
    assert written == [
        ("train", 2, 3, {"objects marked difficult, kept": 1}),
        ("valid", 2, 1, {"images without objects": 1, "images whose size in the XML is another": 1}),
    ]
    content = json.loads((tmp_path / "out/valid/_annotations.coco.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "ant"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}]
    assert [(image["width"], image["height"]) for image in content["images"]] == [(64, 48), (64, 48)]
    assert [a["area"] for a in content["annotations"]] == [140]
    assert files(tmp_path / "out") == {f"train/{n}.jpg" for n in "ab"} | {f"valid/{n}.jpg" for n in "cd"} | {
        "train/_annotations.coco.json",
        "valid/_annotations.coco.json",
    }
    assert len(read_split(find_layout(tmp_path / "out").split("train"))) == 2


def test_voc_beside_the_images_agrees_with_supervision(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "abcdef":
        save(tmp_path / "in/train" / f"{name}.jpg")
        corners = [(x0, y0, rng.integers(x0, 65), rng.integers(y0, 49)) for x0, y0 in rng.integers(1, 48, (4, 2))]
        things = [(str(rng.choice(["cat", "dog"])), *map(int, box)) for box in corners]
        (tmp_path / "in/train" / f"{name}.xml").write_text(
            voc_xml(*things).replace("<part>", "<p>").replace("</part>", "</p>")
        )
    voc_to_coco(tmp_path / "in", tmp_path / "out")
    seen = sv.DetectionDataset.from_pascal_voc(str(tmp_path / "in/train"), str(tmp_path / "in/train"))
    mine = boxes(tmp_path / "out")["train"]
    assert len(seen.image_paths) == len(mine) == 6
    for path, found in seen.annotations.items():
        expected = mine[Path(path).name]
        assert [seen.classes[i] for i in found.class_id] == [label for label, _ in expected]
        corners = np.array([[x, y, x + w, y + h] for _, (x, y, w, h) in expected])
        if tuple(map(int, sv.__version__.split(".")[:2])) < (0, 31):  # it took one off the maximum, too
            corners[:, 2:] -= 1
        assert found.xyxy.tolist() == corners.tolist()


def test_voc_pixels_that_count_from_0_are_seen(tmp_path: Path) -> None:
    save(tmp_path / "in/a.jpg")
    (tmp_path / "in/a.xml").write_text(voc_xml(("cat", 0, 5, 10, 20), ("cat", 5, 5, 10, 20)))
    (split,) = voc_to_coco(tmp_path / "in", tmp_path / "out")
    assert boxes(tmp_path / "out") == {"train": {"a.jpg": [("cat", [0, 5, 10, 15]), ("cat", [5, 5, 5, 15])]}}
    assert split.notes == {"boxes whose pixels count from 0, not from 1 as in VOC": 2}


def test_images_turned_by_exif_have_their_upright_size(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "in/a.jpg", 64, 48, exif=exif)
    (tmp_path / "in/a.xml").write_text(voc_xml(("cat", 1, 1, 10, 60)))
    (split,) = voc_to_coco(tmp_path / "in", tmp_path / "out")
    content = json.loads((tmp_path / "out/train/_annotations.coco.json").read_text())
    assert (content["images"][0]["width"], content["images"][0]["height"]) == (48, 64)
    assert split.notes == {"images whose size in the XML is another": 1}


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(12))
GOOD = voc_xml(("cat", 1, 1, 5, 5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"<!DOCTYPE x [{LAUGHS}]><annotation>&l11;</annotation>", "a.xml is not XML that can be trusted"),
        ('<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><a>&f;</a>', "a.xml is not XML that can be trusted"),
        ('<!DOCTYPE x SYSTEM "http://host/x.dtd"><annotation/>', "a.xml is not XML that can be trusted"),
        (GOOD[:-20], "a.xml is not XML that can be trusted"),
        ("", "a.xml is not XML that can be trusted"),
        ("\x00\xff", "a.xml is not XML that can be trusted"),
        ('<?xml version="1.0" encoding="none"?><a/>', "a.xml is not XML that can be trusted"),
        (GOOD.replace("<xmax>5", "<xmax>nan"), r"a.xml: object 1 has no name or no box of four numbers: 'cat'"),
        (GOOD.replace("<xmax>5", "<xmax>1e300"), "no box of four numbers"),
        (GOOD.replace("<xmax>5", "<xmax>five"), "no box of four numbers"),
        (GOOD.replace("xmax", "max"), "no box of four numbers"),
        (GOOD.replace("<name>cat</name>", ""), "object 1 has no name"),
        ("<annotation/>", "has no objects"),
    ],
)
def test_hostile_and_broken_xml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    save(tmp_path / "in/a.jpg")
    (tmp_path / "in/a.xml").write_text(text, encoding="latin-1")
    with pytest.raises(DatasetError, match=message):
        voc_to_coco(tmp_path / "in", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_deep_xml_is_no_crash(tmp_path: Path) -> None:
    save(tmp_path / "in/a.jpg")
    (tmp_path / "in/a.xml").write_text("<a>" * 1_000_000 + "</a>" * 1_000_000)
    with pytest.raises(DatasetError, match="has no objects"):
        voc_to_coco(tmp_path / "in", tmp_path / "out")


def test_voc_paths_that_leave_the_dataset_are_refused(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc")
    (root / "ImageSets/Main/val.txt").write_text("../../secret\n")
    with pytest.raises(DatasetError, match=r"val.txt lists '../../secret', which is not in"):
        voc_to_coco(root, tmp_path / "out")
    (root / "ImageSets/Main/val.txt").write_text("c\n")
    (root / "JPEGImages/c.jpg").rename(tmp_path / "c.jpg")
    (root / "JPEGImages/c.jpg").symlink_to(tmp_path / "c.jpg")
    with pytest.raises(DatasetError, match=r"'c.jpg' is a link out of"):
        voc_to_coco(root, tmp_path / "out")
    (root / "Annotations/c.xml").rename(tmp_path / "c.xml")
    (root / "Annotations/c.xml").symlink_to(tmp_path / "c.xml")
    with pytest.raises(DatasetError, match=r"c.xml is a link out of"):
        voc_to_coco(root, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"voc", "c.jpg", "c.xml"}


def test_what_is_no_voc_dataset_is_answered_with_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DatasetError, match="looked for Annotations/ with JPEGImages/"):
        voc_to_coco(tmp_path / "in", tmp_path / "out")
    with pytest.raises(DatasetError, match=r"data\.yaml"):
        yolo_to_coco(tmp_path / "in", tmp_path / "out")
    with pytest.raises(DatasetError, match="no layout"):
        coco_to_yolo(tmp_path / "in", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_bccd_there_and_back(tmp_path: Path) -> None:
    root = Path(__file__).parents[4] / "shared" / "data" / "bccd"
    if not root.is_dir():
        pytest.skip("BCCD is not here")
    coco_to_yolo(root, tmp_path / "yolo")
    yolo_to_coco(tmp_path / "yolo", tmp_path / "back")
    before, after = boxes(root), boxes(tmp_path / "back")
    assert {split: len(images) for split, images in after.items()} == {"train": 205, "valid": 87, "test": 72}
    for split, images in before.items():
        for name, expected in images.items():
            assert [label for label, _ in after[split][name]] == [label for label, _ in expected]
            if expected:
                wanted = [box for _, box in expected]
                np.testing.assert_allclose([box for _, box in after[split][name]], wanted, rtol=1e-6, atol=1e-9)
