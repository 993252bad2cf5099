"""What is trained ships as stock RF-DETR: same keys, same outputs, without a line of this package."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import PIL.Image
import pytest

import rfdetr_hwd
from rfdetr_hwd.config.load import load_config
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training import validation_split
from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused
from tests.unit.layers.test_contract import MODULE

STRANGER = """
import json, sys
sys.modules["rfdetr_hwd"] = None
import PIL.Image
exec(sys.argv[1])
found = model.predict([PIL.Image.open(path) for path in sys.argv[2:]], threshold=0.0)
rows = [dict(boxes=d.xyxy.tolist(), scores=d.confidence.tolist(), labels=d.class_id.tolist()) for d in found]
print("RESULT " + json.dumps({"class_names": list(model.class_names), "detections": rows}))
"""


@pytest.mark.parametrize("which", ["ema", pytest.param("raw", marks=pytest.mark.slow)])
def test_a_stranger_gets_the_same_detections(
    trained: Path, cli: Run, shapes_root: Path, tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the line that is printed, typed where the file was written: as many, and the same."""
    monkeypatch.chdir(tmp_path)
    read: list[str] = []
    monkeypatch.setattr(
        validation_split, "read_split", lambda split, *more: read.append(split.name) or read_split(split, *more)
    )
    more = "model.num_select=25"  # of 10 queries
    result = cli("export", "--weights", trained, "--out", "it's stock.pth", "--which", which, "--check-ap", more)
    assert result.returncode == 0, result.stderr
    assert "every key matched" in result.stdout
    assert "gap +0.0e+00" in result.stdout
    assert read == ["valid"]  # once, to compare the outputs and the AP
    _, _, line = result.stdout.partition("load it with:\n")
    images = []
    for index, path in enumerate(sorted((shapes_root / "test").glob("*.jpg"))):
        images.append(tmp_path / f"{index}.png")  # of the model's size, so that no preprocessing resizes them
        PIL.Image.open(path).resize((64, 64)).save(images[-1])
    stranger = subprocess.run(
        [sys.executable, "-c", STRANGER, line, *map(str, images)], capture_output=True, text=True, timeout=120
    )
    assert stranger.returncode == 0, stranger.stderr
    answer = json.loads(next(line for line in stranger.stdout.splitlines() if line.startswith("RESULT "))[7:])
    assert answer["class_names"] == ["circle", "square", "triangle", "star"]
    assert [len(detections["scores"]) for detections in answer["detections"]] == [25, 25]
    ours = Detector.load(trained, which, [more]).predict(images, threshold=0.0)
    for mine, theirs in zip(ours, answer["detections"], strict=True):
        keep = np.array(theirs["labels"]) < 4  # upstream also lists its unused logit
        np.testing.assert_allclose(mine.confidence, np.array(theirs["scores"])[keep], atol=1e-5)
        np.testing.assert_allclose(mine.xyxy, np.array(theirs["boxes"])[keep], atol=1e-2)
        assert mine.class_id.tolist() == np.array(theirs["labels"])[keep].tolist()


def detect(path: Path, images: list[Path]) -> list[np.ndarray]:
    """Return rows of (score, class, x0, y0, x1, y1) for images in one pass, by what an ONNX file says of itself."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    side, mean, std = int(facts["resolution"]), json.loads(facts["mean"]), json.loads(facts["std"])
    assert (facts["resize"], facts["bit_depth"], facts["box_format"]) == ("stretch", "16", "cxcywh")
    opened = [PIL.Image.open(image).convert("RGB") for image in images]
    pixels = [np.asarray(image.resize((side, side), PIL.Image.Resampling.BILINEAR)) / 255 for image in opened]
    batch = np.stack([((p - mean) / std).transpose(2, 0, 1) for p in pixels]).astype(np.float32)
    found = []
    for image, boxes, logits in zip(opened, *session.run(["dets", "labels"], {"input": batch}), strict=True):
        scores = 1 / (1 + np.exp(-logits))
        best = np.argsort(-scores.ravel(), kind="stable")[: int(facts["num_select"])]
        query, label = np.divmod(best, logits.shape[1])
        cx, cy, w, h = boxes[query].T
        corners = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=1).clip(0, 1)
        rows = np.column_stack([scores.ravel()[best], label, corners * np.tile(image.size, 2)])
        found.append(rows[label < len(json.loads(facts["class_names"]))])
    return found


def test_onnx_alone_gives_the_same_detections(trained: Path, cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    """At any batch size, by the file's own metadata, without this package."""
    out = tmp_path / "model.onnx"
    result = cli(
        *("export", "--weights", trained, "--out", out, "--format", "onnx", "--dynamic-batch"),
        *("--images", shapes_root / "test"),
    )
    assert result.returncode == 0, result.stderr
    assert "onnxruntime's outputs on 2 images differ by" in result.stdout
    assert "at batch size 1, 2, 3, 5\n" in result.stdout
    assert out.stat().st_size > 10**7
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    detector = Detector.load(trained)
    facts = {prop.key: prop.value for prop in onnx.load(out).metadata_props}
    assert json.loads(facts["class_names"]) == ["circle", "square", "triangle", "star"]
    assert facts["downsampler"] == "hwd at the projector, folded"
    assert (facts["batch"], facts["rfdetr_hwd_version"]) == ("any", rfdetr_hwd.__version__)
    assert facts["weights_sha256"] == detector.checkpoint.weights_sha256(detector.weights)
    images = sorted((shapes_root / "valid").glob("*.jpg"))[:4]
    for number in (1, 4):
        for mine, rows in zip(detector.predict(images[:number], 0.0), detect(out, images[:number]), strict=True):
            np.testing.assert_allclose(mine.confidence, rows[:, 0], atol=1e-4)
            assert mine.class_id.tolist() == rows[:, 1].tolist()
            np.testing.assert_allclose(mine.xyxy, rows[:, 2:], atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--batch", 3], ["--batch", 4, "--dynamic-batch"]])
def test_openvino_gives_the_same_outputs(
    trained: Path, cli: Run, shapes_root: Path, tmp_path: Path, options: list[object]
) -> None:
    openvino = pytest.importorskip("openvino")
    arguments = ("export", "--weights", trained, "--format", "openvino", "--images", shapes_root / "test", "--out")
    result = cli(*arguments, tmp_path / "model.xml", *options)
    assert result.returncode == 0, result.stderr
    sizes = "1, 2, 3, 4, 5" if "--dynamic-batch" in options else "3"
    assert "openvino's outputs on 2 images differ by" in result.stdout
    assert f"at batch size {sizes}\n" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    model = openvino.Core().read_model(tmp_path / "model.xml")
    size = "?" if "--dynamic-batch" in options else "3"
    assert str(model.input("input").partial_shape) == f"[{size},3,64,64]"
    assert str(model.output("labels").partial_shape) == f"[{size},10,5]"
    names = model.get_rt_info(["model_info", "class_names"]).astype(str)
    assert json.loads(names) == ["circle", "square", "triangle", "star"]
    refused(cli(*arguments, tmp_path / "other.onnx"), 2, "choose a name that ends in .xml")
    (tmp_path / "model.xml").unlink()
    refused(cli(*arguments, tmp_path / "model.xml"), 2, "model.bin already exists: choose a new file")


@pytest.mark.slow
def test_a_graph_can_be_of_one_batch_size(trained: Path, cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    result = cli(
        *("export", "--weights", trained, "--out", out, "--format", "onnx", "--batch", 3),
        *("--images", shapes_root / "test"),
    )
    assert result.returncode == 0, result.stderr
    assert "at batch size 3\n" in result.stdout
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [3, 3, 64, 64]
    assert session.get_modelmeta().custom_metadata_map["batch"] == "3"


def test_what_cannot_be_exported_says_why(trained: Path, cli: Run, config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    short = ["train.epochs=1", "train.batch_size=24", "evaluation.backend=pycocotools"]
    trained_so = cli("train", "--config", config_file, f"output.dir={run}", "downsample.name=maxpool", *short)
    assert trained_so.returncode == 0, trained_so.stderr
    refused(cli("export", "--weights", run, "--out", tmp_path / "x.pth"), 1, "MaxPool", "does not fold into the stock")
    unknown = cli("export", "--weights", trained, "--out", tmp_path / "x", "--format", "bogus")
    assert unknown.returncode == 2
    assert "'bogus' is not one of 'rfdetr', 'hub', 'onnx'" in unknown.stderr
    refused(cli("export", "--weights", trained, "--out", tmp_path / "x", "data.root=nowhere"), 2, "--images DIRECTORY")
    refused(cli("export", "--weights", trained, "--out", tmp_path), 2, "already exists: choose a new file")
    engine = ("export", "--weights", trained, "--out", tmp_path / "x.engine", "--format", "tensorrt")
    refused(cli(*engine, "--quantize", "fp16"), 2, "this machine has no CUDA device", "use --format onnx")
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


@pytest.mark.slow
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
    monkeypatch.setattr("rfdetr_hwd.evaluation.operator_speed.SHAPES", ((8, 8, 6), (3, 12, 8)))
    result = cli("benchmark", "op", "--batch", 1, "--rounds", 2, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    names = {timing["name"] for timing in content["timings"]}
    assert {"conv3x3", "hwd", "hwd (pytorch_wavelets)", "dwt", "hwd as pasted"} <= names
    assert {t["forward_ratio"] for t in content["timings"] if t["name"] == "conv3x3"} == {1.0}
    assert cli("downsample", "list").returncode == 0
