"""`data show` writes what training sees, whatever is broken in a dataset, and the same again for the same seed."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision.transforms.v2 import functional
from typer.testing import CliRunner

from rfdetr_hwd.cli.app import app
from rfdetr_hwd.cli.data import show as show_verb
from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.augmentation import Augmentation, augment
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.findings import DatasetError, Findings
from rfdetr_hwd.data.images import read_image
from rfdetr_hwd.data.read import scan_split
from rfdetr_hwd.data.scene import Scene
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.report.samples import draw_sample, draw_sheet
from rfdetr_hwd.report.views import sample_as_seen

SMALL = ["model.resolution=64"]
PLOTS = {
    "labels",
    "sides",
    "input-sides",
    "relative-sizes",
    "positions",
    "objects-per-image",
    "aspect-ratios",
    "image-sizes",
}
AUGMENT_STREAM = 2


def show(root: Path, out: Path, split: str = "train", count: int = 3, seed: int = 0, *overrides: str) -> str:
    show_verb.show(root, out, [*SMALL, *overrides], split, count, seed)
    return (out / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def root(shapes_root: Path, tmp_path: Path) -> Path:
    """A copy of the dataset that a test may break."""
    return Path(shutil.copytree(shapes_root, tmp_path / "data"))


def edit(root: Path, **changes: str) -> None:
    """Rename the first class and the file of the first image."""
    path = root / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["categories"][1]["name"] = changes.get("name", "circle")
    path.write_text(json.dumps(content))


def dataset(root: Path, flip: float, crop: float, seed: int = 5) -> DetectionDataset:
    data = scan_split(find_layout(root).split("train"), Findings())
    return DetectionDataset(data, Augmentation(seed, AugmentSection(flip=flip, crop=crop, min_crop=0.5)))


def test_the_files_and_the_page(shapes_root: Path, tmp_path: Path) -> None:
    page = show(shapes_root, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{name}.png" for name in (*PLOTS, "images-01", "model-01")), "index.html"
    }  # fmt: skip
    assert page.count("<img ") == len(PLOTS) + 2
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    content = json.loads((shapes_root / "train" / "_annotations.coco.json").read_text())
    for category in content["categories"][1:]:
        mine = [a["image_id"] for a in content["annotations"] if a["category_id"] == category["id"]]
        row = f'<tr><td>{category["name"]}</td><td class="number">{len(mine)}</td>'
        assert f'{row}<td class="number">{len(set(mine))}</td>' in page
    assert "24, of which 0 without objects" in page
    assert "width 96, height 80 pixels" in page
    assert [PIL.Image.open(tmp_path / "out" / f"{name}-01.png").width for name in ("images", "model")] == [816, 1360]


def test_the_same_seed_gives_the_same_files(shapes_root: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        show(shapes_root, tmp_path / name, "train", 3, seed)
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "abc"]
    assert contents[0] == contents[1]
    assert {name for name in contents[0] if contents[0][name] != contents[2][name]} == {
        *("images-01.png", "model-01.png", "index.html")
    }


def test_the_page_names_the_parts_of_a_preset(shapes_root: Path, tmp_path: Path) -> None:
    page = show(shapes_root, tmp_path / "out", "train", 2, 0, "data.augment.preset=strong", "data.augment.mixup=0")
    assert "preset strong: mosaic of four images in the first 90 of 100 epochs (probability 0.5); scale by" in page
    assert "mixup" not in page


@pytest.mark.parametrize("row", [0, 7])
def test_a_flipped_view_by_hand(shapes_root: Path, row: int) -> None:
    images = dataset(shapes_root, flip=1.0, crop=0.0)
    boxes, labels = images.data.objects(row)
    sample = sample_as_seen(images, SampleKey(row, 0, 64))
    mirrored = (np.array([96, 0, 96, 0]) + boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1]) * np.tile([64 / 96, 64 / 80], 2)
    assert np.allclose(sample.boxes_xyxy, mirrored, atol=1e-4)
    assert sample.labels.tolist() == labels.tolist()
    changed = np.asarray(draw_sample(sample, images.data.class_names)) != np.asarray(sample.image)
    rows, columns = np.nonzero(changed.any(axis=-1))
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(drawn - np.concatenate([mirrored[:, :2].min(axis=0), mirrored[:, 2:].max(axis=0)])).max() <= 2.5


def test_views_are_those_of_training(shapes_root: Path) -> None:
    images = dataset(shapes_root, flip=0.5, crop=0.8, seed=5)
    data, seen = images.data, set()
    for row, epoch in ((0, 0), (0, 1), (0, 2), (11, 0), (11, 3)):
        boxes, labels = (torch.from_numpy(array) for array in data.objects(row))
        entropy = (AUGMENT_STREAM, 5, epoch, int(data.image_ids[row]))
        settings = AugmentSection(flip=0.5, crop=0.8, min_crop=0.5)
        image, boxes, labels = augment(Scene(read_image(data.path(row)), boxes, labels), settings, entropy)
        sample = sample_as_seen(images, SampleKey(row, epoch, 64))
        scale = np.array([64 / image.width, 64 / image.height] * 2)
        assert np.allclose(sample.boxes_xyxy, boxes.numpy() * scale, atol=1e-4)
        assert sample.labels.tolist() == labels.tolist()
        assert np.array_equal(np.asarray(sample.image), np.asarray(functional.resize(image, [64, 64], antialias=True)))
        seen.add(sample.image.tobytes())
    assert len(seen) > 3


def test_other_splits_are_not_augmented(shapes_root: Path, tmp_path: Path) -> None:
    page = show(shapes_root, tmp_path / "out", "val", 2)
    assert "This split is not augmented" in page
    assert PIL.Image.open(tmp_path / "out" / "model-01.png").size[0] == 4 * 272


def test_names_from_the_annotations_are_escaped(root: Path, tmp_path: Path) -> None:
    edit(root, name="<script>$alert(1)$</script>")
    page = show(root, tmp_path / "out")
    assert "<script" not in page
    assert "<td>&lt;script&gt;$alert(1)$&lt;/script&gt;</td>" in page


def test_unreadable_images_are_listed_and_replaced(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "train" / "train_00003.jpg").write_bytes(b"no image")
    PIL.Image.new("RGB", (10, 10)).save(root / "train" / "train_00004.jpg")
    (root / "train" / "train_00005.jpg").unlink()
    page, printed = show(root, tmp_path / "out", "train", 24), capsys.readouterr().out
    assert "2 images of the random sample cannot be read" in page
    assert "annotated as 96x80 and decodes to 10x10" in page
    assert page.count("train_00003.jpg") >= 1
    assert "missing_file" in page
    assert "there is no file" in page
    assert printed.count("skipped: ") == 2
    assert PIL.Image.open(tmp_path / "out" / "images-01.png").height == 26 + 6 * (223 + 20 + 4)  # 21 images


def test_a_split_without_a_readable_image_still_has_its_figures(root: Path, tmp_path: Path) -> None:
    for path in (root / "train").glob("*.jpg"):
        path.write_bytes(b"no image")
    page = show(root, tmp_path / "out")
    assert "24 images of the random sample cannot be read" in page
    assert page.count("<img ") == len(PLOTS)


def test_the_model_s_own_resolution_and_a_configuration_file(shapes_root: Path, tmp_path: Path) -> None:
    show_verb.show(shapes_root, tmp_path / "a", split="val", count=1)
    assert "384 x 384" in (tmp_path / "a" / "index.html").read_text()
    config = tmp_path / "config.yaml"
    config.write_text("data: {root: elsewhere, augment: {flip: 0.25}}\nmodel: {resolution: 96, resize: letterbox}")
    show_verb.show(shapes_root, tmp_path / "b", ["train.seed=8", "train.multi_scale=false"], count=1, config=config)
    page = (tmp_path / "b" / "index.html").read_text()
    assert "a nano run with train.seed 8" in page
    assert "horizontal flip (probability 0.25)" in page
    assert "fitted, with its aspect ratio, into 96 x 96 pixels" in page
    assert "multi_scale" not in page
    images = DetectionDataset(
        scan_split(find_layout(shapes_root).split("train"), Findings()),
        Augmentation(8, AugmentSection(flip=0.25)),
    )
    images.resize = "letterbox"
    row = int(np.random.default_rng(0).permutation(24)[0])
    seen = [sample_as_seen(images, SampleKey(row, epoch, 96)) for epoch in range(4)]
    sheet = draw_sheet(seen, images.data.class_names, columns=4, cell_size=272)
    written = PIL.Image.open(tmp_path / "b" / "model-01.png")
    assert written.crop((272, 52, 1360, 52 + 268)).tobytes() == sheet.crop((0, 26, 1088, 26 + 268)).tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "valid"], "'valid' is not one of 'train', 'val', 'test'"),
        (["--count", "0"], "Invalid value for '--count'"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["data.root=x"], "data.root is the first argument here"),
        (["data.rot=x"], "data.rot: unknown key; the nearest known key is data.root"),
    ],
)
def test_wrong_arguments_are_named(shapes_root: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["data", "show", str(shapes_root), "--out", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_directory_that_holds_something_is_left_alone(shapes_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty: choose a new directory"):
        show(shapes_root, tmp_path)
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ConfigError, match="file is not a directory"):
            show(shapes_root, out)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_dataset_that_cannot_be_read_leaves_no_directory(root: Path, tmp_path: Path) -> None:
    (root / "train" / "_annotations.coco.json").write_text("{")
    with pytest.raises(DatasetError, match="not valid JSON"):
        show(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
