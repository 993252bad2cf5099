"""A dataset with 12-bit values in 16-bit files is trained on, measured and used like the same images with 8 bits."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.commands import train as train_command
from rfdetr_hwd.data.shapes import ShapesSpec, write_shapes
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.engine.checkpoint import open_checkpoint
from rfdetr_hwd.engine.tracking import read_metrics
from rfdetr_hwd.run_folder import RunFolder
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


def test_the_same_images_are_the_same_run(cli: Run, config_file: Path, deep: Path, tmp_path: Path) -> None:
    """Also evaluated elsewhere, predicted on, and exported, with what the run has recorded."""
    roots = {"grey": write_grey(tmp_path / "data", lambda grey: grey), "deep": deep}
    metrics, found = {}, {}
    for name, root in roots.items():
        run, out = tmp_path / name, tmp_path / f"{name}-out"
        result = cli("train", "--config", config_file, f"output.dir={run}", f"data.root={root}", *SHORT)
        assert result.returncode == 0, result.stderr
        assert ("train: 4 images with 16 bits a channel hold values of up to 4095" in result.stdout) == (name == "deep")
        bits = {"grey": 16, "deep": 12}[name]
        assert RunFolder.open(run).config([]).data.bit_depth == bits
        assert open_checkpoint((run / "best").resolve()).record["config"]["data"]["bit_depth"] == bits
        # a configuration that leaves it open, and a split that alone would be taken for one of fewer bits
        dark = write_grey(
            tmp_path / f"{name}-dark", {"grey": lambda g: g // 8, "deep": lambda g: as_12_bits(g // 8)}[name]
        )
        options = ["--config", config_file, f"output.dir={run}", f"data.root={dark}", "--out", out]
        assert cli("evaluate", "--weights", run, *options).returncode == 0
        measured = json.loads((out / "metrics.json").read_text())
        assert measured["protocol"]["bit_depth"] == bits
        assert cli("predict", root / "test", "--weights", run, "--out", out, "--threshold", "0").returncode == 0
        predicted = [entry["detections"] for entry in json.loads((out / "detections.json").read_text())]
        with PIL.Image.open(root / "test" / "test_00000.png") as image:
            (detections,) = Detector.load(run).predict([image], 0.0)
        metrics[name] = [read_metrics(run / "metrics.jsonl"), measured["figures"]]
        found[name] = [json.loads((out / "predictions.json").read_text()), predicted, detections.xyxy.tolist()]
    assert metrics["grey"] == metrics["deep"]
    assert found["grey"] == found["deep"]
    result = cli("export", "--weights", tmp_path / "deep", "--out", tmp_path / "x.pth")
    assert "scale those of 16-bit files by 255/4095" in result.stdout


def test_the_bits_of_a_run_stay(
    cli: Run, config_file: Path, deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train = ["train", "--config", config_file, f"output.dir={run}", f"data.root={deep}", *SHORT]
    assert cli(*train).returncode == 0
    resumed = ["train", "--resume", run]
    refused(
        cli(*resumed, "data.bit_depth=16"), 2, "data.bit_depth (was 12, is 16) cannot be changed", "--accept data.bit"
    )
    monkeypatch.setattr(train_command, "_fit", lambda *_: None)
    for arguments in (resumed, [*resumed, "data.bit_depth=auto"], [*train, "--auto-resume"]):
        assert cli(*arguments).returncode == 0
        assert RunFolder.open(run).config([]).data.bit_depth == 12
    result = cli(*resumed, "--accept", "data.bit_depth", "data.bit_depth=10")
    assert result.returncode == 0, result.stderr
    assert "hold values of up to 4095, more than 1023" in result.stdout
    state = open_checkpoint(run / "checkpoints" / "step-00000001").state
    assert (state.best_ap, state.is_evaluation_due) == (None, True), "APs of other pixels are not compared"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("auto", ["up to 4095: they use 12 bits, and are read so (data.bit_depth=12)"]),
        ("16", ["up to 4095: they use 12 bits. Read as 16 bits they are dark, at most 15 of 255"]),
        ("10", ["image 0: 1 images with 16 bits a channel hold values of up to 4095, more than 1023"]),
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
    refused(cli("data", "check", deep, "--bit-depth", "11"), 2, "--bit-depth 11 is not one of auto, 8, 10, 12, 14, 16")


def test_the_pictures_show_what_the_model_sees(cli: Run, deep: Path, tmp_path: Path) -> None:
    """Of the validation split, too, though the training images say how many bits are used."""
    for path in (deep / "valid").glob("*.png"):
        assert np.asarray(PIL.Image.open(path)).max() == 4095
    out = tmp_path / "show"
    assert cli("data", "show", deep, "--out", out, "--split", "val", "--count", "1").returncode == 0
    assert "Values of 16-bit files are read as 12 bits." in (out / "index.html").read_text()
    assert np.asarray(PIL.Image.open(out / "images-01.png").convert("L"))[60:250, 20:250].mean() > 60
