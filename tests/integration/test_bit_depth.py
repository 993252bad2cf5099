"""A dataset with 12-bit values in 16-bit files is trained on, measured and used like the same images with 8 bits."""

import json
import os
import shutil
from collections.abc import Callable
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
from rfdetr_hwd.data.dataset import Augmentation, DetectionDataset, SampleKey
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.export.metadata import describe_graph
from rfdetr_hwd.model.release import BatchSize
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training.data import read_data
from rfdetr_hwd.training.resume import settle_config
from rfdetr_hwd.training.trackers import read_metrics
from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused

SHORT = ("train.epochs=1", "train.batch_size=4", "train.multi_scale=false", "train.ema=false")


def write_grey(root: Path, values: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Write a small dataset of grey PNGs whose values are a function of the 8-bit ones."""
    write_shapes(root, ShapesSpec(train=4, valid=2, test=1, width=96, height=80, max_objects=2))
    for path in root.glob("*/*.jpg"):
        grey = np.asarray(PIL.Image.open(path).convert("L"))
        grey = np.where(grey == grey.max(), 255, grey).astype(np.uint8)  # some are white
        PIL.Image.fromarray(values(grey)).save(path.with_suffix(".png"))
        path.unlink()
    for path in root.glob("*/*.json"):
        path.write_text(path.read_text().replace(".jpg", ".png"))
    return root


def as_12_bits(grey: np.ndarray) -> np.ndarray:
    """Return the smallest values of 12 bits that are these of 8."""
    return (-(-grey.astype(np.int64) * 4095 // 255)).astype(np.uint16)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grey(tmp_path_factory.mktemp("deep") / "data", as_12_bits)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_grey(tmp_path_factory.mktemp("grey") / "data", lambda grey: grey)


@pytest.fixture(scope="module")
def trained_on_deep(config_file: Path, deep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one step."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train_command.run(config_file, None, [f"data.root={deep}", f"output.dir={run}", *SHORT])
    return run


def test_the_model_gets_the_same_pixels(tiny_config: Config, deep: Path, grey: Path) -> None:
    samples = []
    for root in (grey, deep):
        config = parse_config(tiny_config.model_dump(), [f"data.root={root}"])
        splits = read_data(config)[:2]
        assert {data.options.bit_depth for data in splits} == {12 if root is deep else 16}
        datasets = [DetectionDataset(data, Augmentation(3, AugmentSection(min_crop=0.5))) for data in splits]
        samples.append([dataset[SampleKey(row, 1, 64)].images for dataset in datasets for row in range(len(dataset))])
    assert len(samples[0]) == 6
    assert all(torch.equal(one, other) for one, other in zip(*samples, strict=True))


@pytest.mark.slow
def test_the_same_images_are_the_same_run(
    cli: Run, config_file: Path, grey: Path, trained_on_deep: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = cli("train", "--config", config_file, f"output.dir={run}", f"data.root={grey}", *SHORT)
    assert result.returncode == 0, result.stderr
    assert read_metrics(run / "metrics.jsonl") == read_metrics(trained_on_deep / "metrics.jsonl")


@pytest.mark.slow
def test_a_run_records_the_bits_and_uses_them(
    cli: Run,
    config_file: Path,
    deep: Path,
    grey: Path,
    trained_on_deep: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On images that alone would be taken for ones of fewer bits, by a configuration that leaves it open."""
    run, detector = trained_on_deep, Detector.load(trained_on_deep)
    monkeypatch.setattr(Detector, "load", classmethod(lambda *_, **__: detector))  # once is enough
    assert RunFolder.open(run).config([]).data.bit_depth == 12
    assert open_checkpoint((run / "best").resolve()).record.config["data"]["bit_depth"] == 12
    dark = {
        "deep": write_grey(tmp_path / "dark-deep", lambda grey: as_12_bits(grey // 8)),
        "grey": write_grey(tmp_path / "dark-grey", lambda grey: grey // 8),
    }
    found = {}
    for name, root in dark.items():
        out = tmp_path / f"{name}-out"
        options = ["--config", config_file, f"output.dir={run}", f"data.root={root}", "--out", out]
        assert cli("evaluate", "--weights", run, *options).returncode == 0
        assert json.loads((out / "metrics.json").read_text())["protocol"]["bit_depth"] == 12
        found[name] = json.loads((out / "predictions.json").read_text())
    assert found["deep"] == found["grey"]
    shutil.copytree(deep / "test", tmp_path / "photos" / "deep")
    shutil.copytree(grey / "test", tmp_path / "photos" / "grey")
    assert cli("predict", tmp_path / "photos", "--weights", run, "--out", out, "--threshold", "0").returncode == 0
    predicted = [entry["detections"] for entry in json.loads((out / "detections.json").read_text())]
    assert len(predicted) == 2
    assert predicted[0] == predicted[1]
    images = [PIL.Image.open(root / "test" / "test_00000.png") for root in (deep, grey)]
    one, other = detector.predict(images, 0.0)
    np.testing.assert_array_equal(one.xyxy, other.xyxy)
    assert len(one) > 0
    monkeypatch.setattr("rfdetr_hwd.export.export.load_released", lambda _: None)
    monkeypatch.setattr("rfdetr_hwd.export.export.check_released", lambda *_: None)
    result = cli("export", "--weights", run, "--out", tmp_path / "x.pth")
    assert result.returncode == 0, result.stderr
    assert "scale the values of 16-bit files by 255/4095" in result.stdout
    facts = describe_graph(detector, BatchSize(1))
    assert facts["bit_depth"] == "12"
    assert facts["preprocessing"].startswith("more than 8 bits a channel: min(255, floor(value * 255 / 4095)); RGB")


def test_the_bits_of_a_run_stay(
    cli: Run, config_file: Path, deep: Path, trained_on_deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_on_deep, run, symlinks=True, copy_function=os.link)
    resumed = ["train", "--resume", run]
    message = "data.bit_depth (was 12, is 16) cannot be changed"
    refused(cli(*resumed, "data.bit_depth=16"), 2, message, "--accept data.bit_depth")
    monkeypatch.setattr(train_command, "_fit", lambda *_: None)
    folder = RunFolder.open(run)
    started = load_config(config_file, [f"output.dir={run}", f"data.root={deep}", *SHORT])  # as --auto-resume reads it
    assert started.data.bit_depth == "auto"
    for wanted in (started, folder.config(["data.bit_depth=auto"])):
        for checkpoint in (folder.newest(), None):
            settled, changed = settle_config(wanted, folder, checkpoint, [])
            assert settled == folder.config([])
            assert changed <= {"output.dir"}  # the copy of the run lies elsewhere
    assert folder.config([]).data.bit_depth == 12
    result = cli(*resumed, "--accept", "data.bit_depth", "data.bit_depth=10")
    assert result.returncode == 0, result.stderr
    assert "have values up to 4095, above 1023" in result.stdout
    state = open_checkpoint(run / "checkpoints" / "step-00000001").state
    assert (state.best_ap, state.is_evaluation_due) == (None, True), "APs of other pixels are not compared"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("auto", ["up to 4095: they use 12 bits, and are read as such (data.bit_depth=12)"]),
        ("16", ["up to 4095: they use 12 bits. Read as 16 bits they are dark, at most 15 of 255"]),
        ("10", ["image 0: 1 images with 16 bits per channel have values up to 4095, above 1023"]),
        ("12", []),
    ],
)
def test_the_check_says_how_many_bits_are_used(cli: Run, deep: Path, wanted: str, said: list[str]) -> None:
    result = cli("data", "check", deep, "--bit-depth", wanted)
    assert result.returncode == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert all(part in text for part in said)
    assert ("low_bit_depth" in text, "clipped_values" in text) == (wanted in ("auto", "16"), wanted == "10")


def test_the_check_refuses_other_bits(cli: Run, deep: Path) -> None:
    result = cli("data", "check", deep, "--bit-depth", "11")
    assert result.returncode == 2
    assert "'11' is not one of 'auto', '8', '10', '12', '14', '16'" in result.stderr


def test_the_pictures_show_what_the_model_sees(cli: Run, deep: Path, tmp_path: Path) -> None:
    """Of the validation split, too, though the training images say how many bits are used."""
    for path in (deep / "valid").glob("*.png"):
        assert np.asarray(PIL.Image.open(path)).max() == 4095
    out = tmp_path / "show"
    assert cli("data", "show", deep, "--out", out, "--split", "val", "--count", "1").returncode == 0
    assert "Values of 16-bit files are read as 12 bits." in (out / "index.html").read_text()
    assert np.asarray(PIL.Image.open(out / "images-01.png").convert("L"))[60:250, 20:250].mean() > 60
