"""A split is divided by the shares, class by class, the same way for a seed, and near-duplicates stay together."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.curation.split import SplitResult, split_dataset
from rfdetr_hwd.curation.write import ANNOTATIONS
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.near_duplicates import hash_images
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.stratify import Shares, stratify

SHARES = (0.8, 0.1, 0.1)


def write(root: Path, num_scenes: int = 40, copies: int = 5, skip: str = "") -> Path:
    """`num_scenes` unlike images, the first `copies` of them a second time at another size; ids start at 100."""
    folder = root / "train"
    (folder / "sub").mkdir(parents=True)
    images, annotations = [], []
    for number in range(num_scenes + copies):
        seed, side = number % num_scenes, 96 if number < num_scenes else 64
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        name = f"sub/{number}.png" if number % 3 else f"{number}.png"
        if name != skip:
            PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BICUBIC).save(folder / name)
        images.append({"id": 100 + number, "file_name": name, "width": side, "height": side})
        for category in (3, 9)[: 1 + (seed % 4 == 0)] if seed % 10 else ():  # some images have no objects
            box = {"bbox": [1.25, 2.5, 30, 20.125], "area": 77.5, "iscrowd": int(seed == 7)}
            annotations.append(
                {"id": 1000 + len(annotations), "image_id": 100 + number, "category_id": category, **box}
            )
    categories = [{"id": 9, "name": "rare"}, {"id": 3, "name": "common"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / ANNOTATIONS).write_text(json.dumps(content))
    return root


def read(root: Path) -> DetectionData:
    return read_split(find_layout(root).split("train"))


def split(data: DetectionData, out: Path, fractions: tuple[float, ...], seed: int = 0) -> SplitResult:
    return split_dataset(data, hash_images(data), Shares(fractions, seed), out, data.images)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_parts_are_complete_and_keep_ids_and_values(tmp_path: Path) -> None:
    data = read(write(tmp_path / "in"))
    split(data, tmp_path / "out", SHARES, seed=1)
    whole = json.loads((tmp_path / "in/train" / ANNOTATIONS).read_text())
    images, boxes = {}, []
    for name in ("train", "valid", "test"):
        part = json.loads((tmp_path / "out" / name / ANNOTATIONS).read_text())
        assert part["categories"] == [{"id": 3, "name": "common"}, {"id": 9, "name": "rare"}]
        files = {str(p.relative_to(tmp_path / "out" / name)) for p in (tmp_path / "out" / name).rglob("*.png")}
        assert files == {image["file_name"] for image in part["images"]}
        assert not images.keys() & {image["id"] for image in part["images"]}
        images |= {image["id"]: image for image in part["images"]}
        assert {a["image_id"] for a in part["annotations"]} <= {image["id"] for image in part["images"]}
        boxes += part["annotations"]
        for file in files:
            assert (tmp_path / "out" / name / file).read_bytes() == (tmp_path / "in/train" / file).read_bytes()
    assert images == {image["id"]: image for image in whole["images"]}
    assert len({a["id"] for a in boxes}) == len(boxes)

    def plain(annotations: list[dict]) -> Counter:
        kept = ("image_id", "category_id", "area", "iscrowd")
        return Counter((*(a[key] for key in kept), *a["bbox"]) for a in annotations)

    assert plain(boxes) == plain(whole["annotations"])
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"train", "valid", "test"}
    assert len(read_split(find_layout(tmp_path / "out").split("train"))) > 30  # it is a dataset


def test_near_duplicates_stay_together(tmp_path: Path) -> None:
    data = read(write(tmp_path / "in"))
    for seed in range(3):
        result = split(data, tmp_path / f"out{seed}", (0.5, 0.25, 0.25), seed)
        assert result.groups == [[i, 40 + i] for i in range(5)]
        for group in result.groups:
            assert sum(bool(set(group) & set(rows.tolist())) for rows in result.rows.values()) == 1


def test_a_seed_gives_the_same_parts_and_another_seed_others(tmp_path: Path) -> None:
    data = read(write(tmp_path / "in"))
    for number, seed in enumerate((4, 4, 5)):
        split(data, tmp_path / str(number), SHARES, seed)
    assert contents(tmp_path / "0") == contents(tmp_path / "1")
    assert contents(tmp_path / "0").keys() != contents(tmp_path / "2").keys()


def test_a_part_of_share_0_is_not_written(tmp_path: Path) -> None:
    result = split(read(write(tmp_path / "in")), tmp_path / "out", (0.75, 0.25, 0))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "valid"}
    assert [len(rows) for rows in result.rows.values()] == [34, 11]


def test_classes_are_divided_by_the_shares() -> None:
    """Rare classes among 2,000 images: each part has its share of each, within one image and a half per class."""
    rng = np.random.default_rng(0)
    frequency = np.array([0.6, 0.3, 0.1, 0.02, 0.005])
    classes = [np.flatnonzero(rng.random(5) < frequency).tolist() for _ in range(2000)]
    parts = stratify(classes, [], SHARES, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(parts), [1600, 200, 200], atol=3)
    presence = np.array([np.isin(range(5), labels) for labels in classes])
    for label in range(5):
        having = np.bincount(parts[presence[:, label]], minlength=3)
        np.testing.assert_allclose(having, having.sum() * np.array(SHARES), atol=1.5)


def test_groups_are_dealt_as_one_and_shares_still_hold() -> None:
    rng = np.random.default_rng(0)
    classes = [rng.choice(4, 2).tolist() for _ in range(1000)]
    groups = [list(range(start, start + 10)) for start in range(0, 500, 10)]
    parts = stratify(classes, groups, (0.7, 0.2, 0.1), np.random.default_rng(0))
    assert all(len(set(parts[group].tolist())) == 1 for group in groups)
    np.testing.assert_allclose(np.bincount(parts), [700, 200, 100], atol=5)
    assert stratify([[]] * 10, [], (0.5, 0.5, 0), rng).tolist().count(0) == 5
    assert stratify([[0]] * 3, [[0, 1, 2]], (1, 0, 0), rng).tolist() == [0, 0, 0]


def test_large_groups_are_dealt_first() -> None:
    """Thirty-five pairs and a group of thirty: dealt last, the group would spoil the shares."""
    groups = [[row, row + 1] for row in range(0, 70, 2)] + [list(range(70, 100))]
    for seed in range(3):
        parts = stratify([[0]] * 100, groups, (0.7, 0.3, 0), np.random.default_rng(seed))
        assert np.bincount(parts).tolist() == [70, 30]


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="2 images, with 0 groups .* test would be empty"):
        split(read(write(tmp_path / "in", 2, 0)), tmp_path / "out", (0.4, 0.4, 0.2))
    assert {path.name for path in tmp_path.iterdir()} == {"in"}


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    data = read(write(tmp_path / "in"))
    (tmp_path / "elsewhere.png").write_bytes((tmp_path / "in/train/0.png").read_bytes())
    (tmp_path / "in/train/0.png").unlink()
    (tmp_path / "in/train/0.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(DatasetError, match=r"'0.png' is a link to a file outside of"):
        split(data, tmp_path / "out", SHARES)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "elsewhere.png"}
    with pytest.raises(DatasetError, match="in already exists"):
        split(read(write(tmp_path / "b" / "in")), tmp_path / "in", SHARES)


@pytest.mark.parametrize("wrong", [(0.5, 0.5), (0.8, 0.3, -0.1), (0.5, 0.2, 0.2), (0, 0.5, 0.5), (float("nan"), 0, 1)])
def test_shares_that_are_none_are_refused(tmp_path: Path, wrong: tuple[float, ...]) -> None:
    data = read(write(tmp_path / "in", 3, 0))
    with pytest.raises(ValueError, match="must (be three fractions|have the sum 1)"):
        split(data, tmp_path / "out", wrong)
