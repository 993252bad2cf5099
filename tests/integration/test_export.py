"""What is trained ships as stock RF-DETR: same keys, same outputs, without a line of this package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.commands import train as train_command
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.read_config import load_config
from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused
from tests.unit.layers.test_contract import MODULE

STRANGER = """
import json, sys
sys.modules["rfdetr_hwd"] = None
import PIL.Image
from rfdetr import RFDETR
model = RFDETR.from_checkpoint(sys.argv[1], device="cpu")
found = model.predict([PIL.Image.open(path) for path in sys.argv[2:]], threshold=0.0)
rows = [dict(boxes=d.xyxy.tolist(), scores=d.confidence.tolist(), labels=d.class_id.tolist()) for d in found]
print("RESULT " + json.dumps({"class_names": list(model.class_names), "detections": rows}))
"""


@pytest.mark.parametrize("which", ["ema", pytest.param("plain", marks=pytest.mark.slow)])
def test_a_stranger_gets_the_same_detections(
    trained: Path, cli: Run, shapes_root: Path, tmp_path: Path, which: str
) -> None:
    out = tmp_path / "stock.pth"
    result = cli("export", "--weights", trained, "--out", out, "--which", which, "--check-ap")
    assert result.returncode == 0, result.stderr
    assert "every key matched" in result.stdout
    assert "gap +0.0e+00" in result.stdout
    images = []
    for index, path in enumerate(sorted((shapes_root / "test").glob("*.jpg"))):
        images.append(tmp_path / f"{index}.png")  # of the model's size, so that no preprocessing resizes them
        PIL.Image.open(path).resize((64, 64)).save(images[-1])
    stranger = subprocess.run(
        [sys.executable, "-c", STRANGER, str(out), *map(str, images)], capture_output=True, text=True, timeout=120
    )
    assert stranger.returncode == 0, stranger.stderr
    answer = json.loads(next(line for line in stranger.stdout.splitlines() if line.startswith("RESULT "))[7:])
    assert answer["class_names"] == ["circle", "square", "triangle", "star"]
    ours = Detector.load(trained, which).predict([PIL.Image.open(path) for path in images], threshold=0.0)
    for mine, theirs in zip(ours, answer["detections"], strict=True):
        keep = np.array(theirs["labels"]) < 4  # upstream also lists its unused logit
        np.testing.assert_allclose(mine.confidence, np.array(theirs["scores"])[keep], atol=1e-5)
        np.testing.assert_allclose(mine.xyxy, np.array(theirs["boxes"])[keep], atol=1e-2)
        assert mine.class_id.tolist() == np.array(theirs["labels"])[keep].tolist()


def test_onnx_gives_the_same_outputs(trained: Path, cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    result = cli("export", "--weights", trained, "--out", out, "--format", "onnx", "--images", shapes_root / "test")
    assert result.returncode == 0, result.stderr
    assert "onnxruntime's outputs on 2 images differ by" in result.stdout
    assert out.stat().st_size > 10**7
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.slow
def test_openvino_gives_the_same_outputs(trained: Path, cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    arguments = ("export", "--weights", trained, "--format", "openvino", "--images", shapes_root / "test", "--out")
    result = cli(*arguments, tmp_path / "model.xml")
    assert result.returncode == 0, result.stderr
    assert "openvino's outputs on 2 images differ by" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    refused(cli(*arguments, tmp_path / "other.onnx"), 2, "NAME.xml")
    (tmp_path / "model.xml").unlink()
    refused(cli(*arguments, tmp_path / "model.xml"), 2, "model.bin is there already")


def test_what_cannot_be_exported_says_why(trained: Path, cli: Run, config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    short = ["train.epochs=1", "train.batch_size=24", "evaluation.backend=faster"]
    trained_so = cli("train", "--config", config_file, f"output.dir={run}", "downsample.name=maxpool", *short)
    assert trained_so.returncode == 0, trained_so.stderr
    refused(cli("export", "--weights", run, "--out", tmp_path / "x.pth"), 1, "MaxPool", "does not fold into the stock")
    refused(cli("export", "--weights", trained, "--out", tmp_path / "x", "--format", "bogus"), 2, "bogus", "onnx")
    refused(cli("export", "--weights", trained, "--out", tmp_path / "x", "data.root=nowhere"), 2, "--images FOLDER")
    refused(cli("export", "--weights", trained, "--out", tmp_path), 2, "is there already")
    assert not (tmp_path / "x.pth").exists()


def test_a_users_downsampler_is_trained_and_loaded_only_when_trusted(
    cli: Run, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_layers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    run, name = tmp_path / "run", "my_layers:Mine"
    options = [f"downsample.name={name}", "downsample.options={scale: 0.5}", "train.epochs=1", "train.batch_size=24"]
    result = cli("train", "--config", config_file, f"output.dir={run}", *options)
    assert result.returncode == 0, result.stderr
    sys.modules.pop("my_layers")
    refused(cli("evaluate", "--weights", run), 1, name, "RFDETR_HWD_TRUST")
    refused(cli("train", "--resume", run), 1, name, "RFDETR_HWD_TRUST")
    assert "my_layers" not in sys.modules
    line = train_command._resume_command(load_config(run / "config.yaml", []))
    assert line == f"RFDETR_HWD_TRUST={name} rfdetr-hwd train --resume {run}"
    result = cli("train", "--config", config_file, f"output.dir={run}", *options, "--auto-resume")
    assert result.returncode == 0, result.stderr  # whoever starts the run names the class
    monkeypatch.setenv("RFDETR_HWD_TRUST", name)
    assert cli("evaluate", "--weights", run).returncode == 0


def test_the_stem_trains_evaluates_and_ships(cli: Run, config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["downsample.site=stem", "model.levels=[P4]", "model.resolution=128", "train.multi_scale=false"]
    short = ["train.epochs=1", "train.batch_size=24", "train.micro_batch=12"]
    result = cli("train", "--config", config_file, f"output.dir={run}", *options, *short)
    assert result.returncode == 0, result.stderr
    assert cli("evaluate", "--weights", run).returncode == 0
    result = cli("export", "--weights", run, "--out", tmp_path / "stock.pth")
    assert result.returncode == 0, result.stderr
    refused(
        cli("train", "--config", config_file, f"output.dir={run}2", *options, "model.resolution=96"),
        2,
        "96 is not a multiple of 64",
    )


def test_the_benchmark_writes_what_it_measured(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfdetr_hwd.commands.benchmark.SHAPES", ((8, 8, 6), (3, 12, 8)))
    result = cli("benchmark", "op", "--batch", 1, "--rounds", 2, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    names = {timing["name"] for timing in content["timings"]}
    assert {"conv3x3", "hwd", "hwd (pytorch_wavelets)", "dwt", "hwd as pasted"} <= names
    assert {t["forward_ratio"] for t in content["timings"] if t["name"] == "conv3x3"} == {1.0}
    assert cli("downsample", "list").returncode == 0
