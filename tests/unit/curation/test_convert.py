"""Conversions keep every box, class and image, agree with supervision's loaders, and refuse hostile files."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml

from rfdetr_hwd.curation.convert import Conversion, Written, convert
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.read import read_split

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import supervision as sv


def save(path: Path, width: int = 64, height: int = 48, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (width, height), (90, 120, 30)).save(path, **options)


def to_coco(root: Path, out: Path, *allow: str) -> Conversion:
    return convert(find_layout(root), "coco", out, allow)


def to_yolo(root: Path, out: Path, *allow: str) -> list[Written]:
    return convert(find_layout(root), "yolo", out, allow).written


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
    written = to_yolo(source, tmp_path / "yolo")
    before = boxes(source)
    assert [(split.name, split.images, split.objects, split.skipped) for split in written] == [
        ("train", 12, sum(map(len, before["train"].values())), {}),
        ("valid", 5, sum(map(len, before["valid"].values())), {}),
    ]
    to_coco(tmp_path / "yolo", tmp_path / "back")
    after = boxes(tmp_path / "back")
    assert after.keys() == before.keys() == {"train", "valid"}
    for split, images in before.items():
        assert after[split].keys() == {name.replace("/", "_") for name in images}
        for name, expected in images.items():
            found = after[split][name.replace("/", "_")]
            assert [label for label, _ in found] == [label for label, _ in expected]
            for (_, a), (_, b) in zip(found, expected, strict=True):
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
    (written, *_) = to_yolo(tmp_path / "in", tmp_path / "out")
    read = read_split(find_layout(tmp_path / "out").split("train"))
    assert len(read.labels) == written.objects > 0


def test_the_yolo_dataset_is_laid_out_as_others_expect(tmp_path: Path) -> None:
    to_yolo(write_coco(tmp_path / "coco"), tmp_path / "yolo")
    assert yaml.safe_load((tmp_path / "yolo/data.yaml").read_text(encoding="utf-8")) == {
        "train": "train/images",
        "val": "valid/images",
        "nc": 3,
        "names": ["on: 1", "車", "Katze"],
    }
    names = {"train": [f"deep_{n}" if n % 4 == 1 else f"{n}.v1" for n in range(12)]}
    names["valid"] = names["train"][:5]
    expected = {f"{s}/images/{n}.jpg" for s in names for n in names[s]}
    expected |= {f"{s}/labels/{n}.txt" for s in names for n in names[s]} | {"data.yaml"}
    assert files(tmp_path / "yolo") == expected
    assert (tmp_path / "yolo/train/labels/3.v1.txt").read_text() == ""
    seen = sv.DetectionDataset.from_yolo(
        *(str(tmp_path / "yolo" / part) for part in ("valid/images", "valid/labels", "data.yaml"))
    )
    mine = {name.replace("/", "_"): found for name, found in boxes(tmp_path / "coco")["valid"].items()}
    assert seen.classes == ["on: 1", "車", "Katze"]
    assert {Path(path).name for path in seen.image_paths} == mine.keys()
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
    written = to_coco(root, tmp_path / "coco").written
    assert written == [("train", 2, 2, {}, {"images without objects": 1})]
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
    (tmp_path / "in/data.yaml").write_text("train: train/images\nnames: {10: ten, 2: two, 0: zero}\n")
    to_coco(tmp_path / "in", tmp_path / "out")
    assert boxes(tmp_path / "out")["train"]["a.png"] == [("ten", [16, 12, 32, 24]), ("two", [16, 12, 32, 24])]


def test_what_yolo_cannot_hold_is_skipped_and_counted(tmp_path: Path) -> None:
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
    (split,) = to_yolo(tmp_path / "in", tmp_path / "out")
    assert split.objects == 1
    assert split.notes == {"boxes clipped to the image": 1}
    assert split.skipped == {"crowd regions skipped": 1, "boxes without area in the image skipped": 1}
    assert (tmp_path / "out/train/labels/a.txt").read_text() == "0 0.046875 0.25 0.09375 0.5\n"


@pytest.mark.parametrize("line", ["0 0.5 0.5 0.1", "0 nan 0.5 0.1 0.1", "x 0.5 0.5 0.1 0.1"])
def test_bad_label_lines_are_skipped_and_named(tmp_path: Path, line: str) -> None:
    save(tmp_path / "in/train/images/a.png")
    (tmp_path / "in/train/labels").mkdir()
    (tmp_path / "in/train/labels/a.txt").write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    (tmp_path / "in/data.yaml").write_text("train: train/images\nnames: [x]\n")
    converted = convert(find_layout(tmp_path / "in"), "coco", tmp_path / "out")
    assert [split.objects for split in converted.written] == [1]
    with pytest.raises(DatasetError, match=r"a\.txt:? line 2"):
        converted.findings.refuse_errors([])


def test_bccd_there_and_back(tmp_path: Path) -> None:
    root = Path(__file__).parents[4] / "shared" / "data" / "bccd"
    if not root.is_dir():
        pytest.skip("BCCD is not here")
    to_yolo(root, tmp_path / "yolo")
    to_coco(tmp_path / "yolo", tmp_path / "back")
    before, after = boxes(root), boxes(tmp_path / "back")
    assert {split: len(images) for split, images in after.items()} == {"train": 205, "valid": 87, "test": 72}
    for split, images in before.items():
        for name, expected in images.items():
            assert [label for label, _ in after[split][name]] == [label for label, _ in expected]
            if expected:
                wanted = [box for _, box in expected]
                np.testing.assert_allclose([box for _, box in after[split][name]], wanted, rtol=1e-6, atol=1e-9)
