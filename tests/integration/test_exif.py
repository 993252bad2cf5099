"""A dataset annotated as stored is trained on, measured and used as if its images had no EXIF orientation."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from rfdetr_hwd.checkpoint.read import open_checkpoint
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.config.load import load_config, parse_config
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes
from rfdetr_hwd.data.augmentation import Augmentation
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training.data import read_data
from rfdetr_hwd.training.resume import settle_config
from rfdetr_hwd.training.trackers import read_metrics
from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused
from tests.unit.data.test_exif import right_boxes, scan, write

SHORT = ("train.epochs=1", "train.batch_size=4", "train.multi_scale=false", "train.ema=false")
IGNORE = "data.exif=ignore"


def write_tagged(root: Path, orientations: tuple[int, ...]) -> Path:
    """Write a small dataset of PNGs whose annotations are of the stored images, with these orientations in turn."""
    write_shapes(root, ShapesSpec(train=8, valid=4, test=2, width=96, height=80, max_objects=2))
    for number, path in enumerate(sorted(root.glob("*/*.jpg"))):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientations[number % len(orientations)]
        PIL.Image.open(path).save(path.with_suffix(".png"), exif=exif)
        path.unlink()
    for path in root.glob("*/*.json"):
        path.write_text(path.read_text().replace(".jpg", ".png"))
    return root


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagged(tmp_path_factory.mktemp("tagged") / "data", (1, 2, 3, 4, 5, 6, 7, 8))


@pytest.fixture(scope="module")
def sideways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagged(tmp_path_factory.mktemp("sideways") / "data", (1, 5, 6, 7, 8))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tagged(tmp_path_factory.mktemp("raw") / "data", (1,))


@pytest.fixture(scope="module")
def trained_as_stored(config_file: Path, tagged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train_command.run(config_file, None, [f"data.root={tagged}", f"output.dir={run}", IGNORE, *SHORT])
    return run


@pytest.mark.parametrize(("name", "exif"), [("tagged", "ignore"), ("sideways", "auto")])
@pytest.mark.parametrize("fraction", [None, 0.3])
def test_the_model_gets_the_same_samples(
    tiny_config: Config,
    request: pytest.FixtureRequest,
    plain: Path,
    tmp_path: Path,
    name: str,
    exif: str,
    fraction: float | None,
) -> None:
    """Of a validation split, too, and of one that is held out."""
    found = []
    for number, (source, key) in enumerate([(plain, "auto"), (request.getfixturevalue(name), exif)]):
        root = tmp_path / str(number)
        shutil.copytree(source, root)
        extra = [] if fraction is None else [f"data.val_fraction={fraction}"]
        if fraction is not None:
            shutil.rmtree(root / "valid")
        config = parse_config(tiny_config.model_dump(), [f"data.root={root}", f"data.exif={key}", *extra])
        datasets = [
            DetectionDataset(data, Augmentation(3, AugmentSection(min_crop=0.5))) for data in read_data(config)[:2]
        ]
        found.append([dataset[SampleKey(row, 1, 64)] for dataset in datasets for row in range(len(dataset))])
    assert len(found[0]) == len(found[1]) == (12 if fraction is None else 8)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets[0]["boxes"], other.targets[0]["boxes"])
        assert torch.equal(one.sizes, other.sizes)


@pytest.mark.slow
def test_the_same_pixels_are_the_same_run(
    cli: Run, config_file: Path, plain: Path, trained_as_stored: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = cli("train", "--config", config_file, f"output.dir={run}", f"data.root={plain}", *SHORT)
    assert result.returncode == 0, result.stderr
    assert read_metrics(run / "metrics.jsonl") == read_metrics(trained_as_stored / "metrics.jsonl")


def test_a_run_records_the_key_and_uses_it(
    cli: Run,
    tagged: Path,
    plain: Path,
    trained_as_stored: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, detector = trained_as_stored, Detector.load(trained_as_stored)
    assert RunFolder.open(run).config([]).data.exif == "ignore"
    assert open_checkpoint((run / "best").resolve()).record.config["data"]["exif"] == "ignore"
    found = {}
    for name, key, root in (("tagged", "ignore", tagged), ("raw", "apply", plain)):
        out = tmp_path / name
        overrides = [f"data.root={root}", *([] if key == "ignore" else [f"data.exif={key}"])]
        result = cli("evaluate", "--weights", run, "--out", out, *overrides)
        assert result.returncode == 0, result.stderr
        assert json.loads((out / "metrics.json").read_text())["protocol"]["exif"] == key
        assert ("data.exif is apply here, but was ignore in training" in result.stdout) == (key == "apply")
        found[name] = json.loads((out / "predictions.json").read_text())
    assert len(found["tagged"]) > 0
    assert found["tagged"] == found["raw"]
    monkeypatch.setattr(Detector, "load", classmethod(lambda *_, **__: detector))  # once is enough from here
    shutil.copytree(tagged / "valid", tmp_path / "photos" / "tagged")
    shutil.copytree(plain / "valid", tmp_path / "photos" / "raw")
    out = tmp_path / "out"
    assert cli("predict", tmp_path / "photos", "--weights", run, "--out", out, "--threshold", "0").returncode == 0
    predicted = [entry["detections"] for entry in json.loads((out / "detections.json").read_text())]
    assert len(predicted) == 8
    assert predicted[:4] == predicted[4:]
    images = [PIL.Image.open(root / "valid" / "valid_00003.png") for root in (tagged, plain)]
    one, other = detector.predict(images, 0.0)
    np.testing.assert_array_equal(one.xyxy, other.xyxy)
    monkeypatch.setattr("rfdetr_hwd.export.export.load_released", lambda _: None)
    monkeypatch.setattr("rfdetr_hwd.export.export.check_released", lambda *_: None)
    result = cli("export", "--weights", run, "--out", tmp_path / "x.pth")
    assert result.returncode == 0, result.stderr
    assert "trained on images as stored (data.exif=ignore)" in " ".join(result.stdout.split())


def test_the_key_of_a_run_stays(
    cli: Run, config_file: Path, tagged: Path, trained_as_stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_as_stored, run, symlinks=True, copy_function=os.link)
    resumed = ["train", "--resume", run]
    message = 'data.exif (was "ignore", is "auto") cannot be changed'
    refused(cli(*resumed, "data.exif=auto"), 2, message, "--accept data.exif")
    started = load_config(config_file, [f"output.dir={run}", f"data.root={tagged}", IGNORE, *SHORT])
    folder = RunFolder.open(run)
    settled, changed = settle_config(started, folder, folder.newest(), [])
    assert (settled, changed) == (folder.config([]), {"output.dir"})
    monkeypatch.setattr(train_command, "_fit", lambda *_: None)
    result = cli(*resumed, "--accept", "data.exif", "--accept", "annotations", "data.exif=auto")
    assert result.returncode == 0, result.stderr
    state = open_checkpoint(run / "checkpoints" / "step-00000002").state
    assert (state.best_ap, state.is_evaluation_due) == (None, True), "APs of other images are not compared"


def test_commands_on_data_take_the_key(cli: Run, tagged: Path, tmp_path: Path) -> None:
    wrong = cli("data", "check", tagged, "--exif", "yes")
    assert (wrong.returncode, "'yes' is not one of 'auto', 'apply', 'ignore'" in wrong.stderr) == (2, True)
    text = " ".join(cli("data", "check", tagged, "--exif", "ignore").stdout.split())
    assert "its EXIF orientation is not applied (data.exif=ignore)" in text
    assert "rotated_image:" not in text.replace("unrotated_image:", "")
    show = tmp_path / "show"
    assert cli("data", "show", tagged, "--out", show, "--count", "2", IGNORE).returncode == 0
    assert "EXIF orientations are not applied." in (show / "index.html").read_text()
    divided = ["--fractions", "0.5,0.25,0.25", "--exif", "ignore"]
    labelled = write(tmp_path / "labelled", "yolo", is_stored=True)  # whose boxes need the size of the image
    result = cli("data", "show", labelled, "--out", tmp_path / "page", "--count", "8", IGNORE)
    assert (result.returncode, "skipped" in result.stdout) == (0, False)
    whole = ["--fractions", "1,0,0", "--exif", "ignore"]
    result = cli("data", "split", labelled, "--out", tmp_path / "parts", *whole)
    assert (result.returncode, "8 images in 1 groups" in result.stdout) == (0, True), result.stderr
    assert right_boxes(scan(tmp_path / "parts")[0]) == list(range(1, 9))
    assert cli("data", "convert", tagged, "--to", "coco", "--out", tmp_path / "all", "--exif", "ignore").returncode == 0
    result = cli("data", "split", tagged, "--out", tmp_path / "divided", *divided, "--train", "train")
    assert result.returncode == 0, result.stderr
    for root in (tmp_path / "all", tmp_path / "divided"):
        for path in root.glob("*/_annotations.coco.json"):
            sizes = {
                image["file_name"]: (image["width"], image["height"])
                for image in json.loads(path.read_text())["images"]
            }
            for name, size in sizes.items():
                with PIL.Image.open(path.parent / name) as image:
                    assert size == ((80, 96) if image.getexif().get(0x0112) in (5, 6, 7, 8) else (96, 80))
