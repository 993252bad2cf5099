"""The benchmarks measure real models and real steps, change nothing, and refuse what they cannot measure."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rfdetr_hwd.detector import Detector
from rfdetr_hwd.export.artefact import Artefact, inputs_of
from rfdetr_hwd.export.speed import detect_files
from rfdetr_hwd.runtime.memory import OutOfMemoryError
from rfdetr_hwd.training import step_profile
from rfdetr_hwd.training.train_step import TrainStep
from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of every file."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def read_record(folder: Path) -> dict:
    (path,) = folder.iterdir()
    return json.loads(path.read_text())


@pytest.mark.parametrize("verb", [("train", "--weights", "none"), ("model", "--weights", "none"), ("op",)])
def test_a_file_in_place_of_the_directory_is_refused_before_anything_is_measured(
    verb: tuple[str, ...], cli: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    refused(cli("benchmark", *verb, "--out", tmp_path / "file" / "new"), 2, "--out", "file is not a directory")


def test_one_model_given_twice_is_refused(trained: Path, cli: Run) -> None:
    refused(cli("benchmark", "model", "--weights", trained, "--weights", trained / "."), 2, "is given twice")


def test_the_parts_of_a_step_add_up(trained: Path, cli: Run, tmp_path: Path) -> None:
    """And the larger of two forward passes is measured, because the run accumulates gradients."""
    before = contents(trained)
    result = cli("benchmark", "train", "--weights", trained, "--steps", 2, "--out", tmp_path, "train.micro_batch=2")
    assert result.returncode == 0, result.stderr
    record = read_record(tmp_path)
    assert list(record["seconds"]) == list(step_profile.PARTS)
    assert sum(record["seconds"].values()) == pytest.approx(record["images"] / record["images_per_second"])
    assert (record["images"], record["micro_batch"], record["doubled"][0]) == (4, 2, 4)
    assert "what would help most: " in result.stdout
    assert contents(trained) == before


def test_a_new_run_is_profiled_without_a_directory(
    config_file: Path, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(
        "benchmark", "train", "--config", config_file, "--steps", 1, "train.micro_batch=null", "train.ema=false"
    )
    assert result.returncode == 0, result.stderr
    assert "train.micro_batch" not in result.stdout
    assert "EMA" not in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_cannot_be_profiled_says_why(
    trained: Path, config_file: Path, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(cli("benchmark", "train"), 2, "give --config FILE", "--weights RUN_DIR")
    refused(cli("benchmark", "train", "--weights", tmp_path / "none"), 1, "none is not a directory")
    refused(cli("benchmark", "train", "--weights", tmp_path), 1, str(tmp_path))
    refused(cli("benchmark", "train", "--config", config_file, "data.root=nowhere"), 1, "nowhere")
    refused(cli("benchmark", "train", "--weights", trained, "model.num_queries=12"), 1, "leave model.* as recorded")

    def fail(*_: object) -> None:
        raise OutOfMemoryError

    monkeypatch.setattr(TrainStep, "__call__", fail)
    refused(cli("benchmark", "train", "--weights", trained), 1, "a step with 2 images per forward pass does not fit")


@pytest.mark.slow
def test_a_model_is_measured_as_trained_and_as_shipped(trained: Path, cli: Run, tmp_path: Path) -> None:
    """With --ap, the evaluation of training is repeated to the last digit, and the folded model has the same AP."""
    before = contents(trained)
    options = ("--no-graphs", "--rounds", 3, "--batch", 2, "--ap", "--out", tmp_path)
    result = cli("benchmark", "model", "--weights", trained, *options)
    assert result.returncode == 0, result.stderr
    as_trained, stock = read_record(tmp_path)["artefacts"]
    detector = Detector.load(trained)
    recorded = detector.checkpoint.state.metrics[f"{detector.weights}/AP"]
    assert as_trained["ap"] == recorded
    assert stock["ap"] == pytest.approx(recorded, abs=1e-4)
    assert (as_trained["form"], stock["form"]) == ("as trained (hwd)", "stock RF-DETR")
    count = sum(parameter.numel() for parameter in detector.network.parameters())
    assert as_trained["parameters"] == count != stock["parameters"]
    assert as_trained["batch"] == stock["batch"] == 2
    assert contents(trained) == before


def test_end_to_end_finds_what_the_detector_finds(trained: Path, shapes_root: Path) -> None:
    detector = Detector.load(trained)
    files = sorted((shapes_root / "valid").glob("*.jpg"))[:2]
    cpu = torch.device("cpu")
    artefact = Artefact("run", "trained", detector.network, inputs_of(detector), cpu, "float32", detector.config, 0)
    found = detect_files(artefact, files, 3)  # the first one again
    for mine, expected in zip(found, detector.predict([*files, files[0]], 0.0), strict=True):
        keep = mine["labels"] < len(detector.class_names)
        np.testing.assert_allclose(mine["scores"][keep], expected.confidence, atol=1e-6)
        np.testing.assert_allclose(mine["boxes"][keep], expected.xyxy, atol=1e-3)


def test_a_model_that_cannot_be_measured_says_why(
    trained: Path, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("benchmark", "model", "--weights")
    refused(cli(*command, tmp_path / "none"), 2, "there is no such file or directory")
    refused(cli(*command, tmp_path), 1, str(tmp_path))
    (tmp_path / "weights.pth").write_bytes(b"")
    refused(cli(*command, tmp_path / "weights.pth"), 1, "weights.pth is not a directory")
    (tmp_path / "other.onnx").write_bytes(b"")
    refused(cli(*command, tmp_path / "other.onnx"), 1, "other.onnx cannot be loaded by onnxruntime")
    (tmp_path / "model.engine").write_bytes(b"")
    refused(cli(*command, tmp_path / "model.engine"), 1, "model.engine runs on a GPU, and this machine has no CUDA")
    refused(cli(*command, trained, "--device", "cuda"), 2, "has no CUDA device")
    refused(cli(*command, trained, "--images", tmp_path / "none"), 2, "no image or directory")

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("rfdetr_hwd.export.speed.forward_in_amp", fail)
    result = cli(*command, trained, "--no-graphs", "--batch", 64, "data.root=nowhere")
    refused(result, 1, "a batch of 64 images does not fit into memory")
    assert "end to end on synthetic images: " in result.stdout


@pytest.mark.slow
def test_graphs_are_measured_and_evaluated_in_their_own_runtime(
    trained: Path, cli: Run, shapes_root: Path, tmp_path: Path
) -> None:
    graph, out = tmp_path / "model.onnx", tmp_path / "out"
    arguments = ("export", "--weights", trained, "--out", graph, "--format", "onnx", "--images", shapes_root / "test")
    assert cli(*arguments, "--batch", 3).returncode == 0
    both = ("--weights", trained, "--weights", graph)
    result = cli("benchmark", "model", *both, "--rounds", 3, "--batch", 2, "--ap", "--out", out)
    assert result.returncode == 0, result.stderr
    rows = read_record(out)["artefacts"]
    assert [row["form"] for row in rows] == ["as trained (hwd)", "stock RF-DETR", "onnx", "openvino", "onnx"]
    assert [row["ap"] for row in rows] == pytest.approx([rows[0]["ap"]] * 5, abs=1e-3)
    assert [row["batch"] for row in rows] == [2, 2, 2, 2, 3]
    assert rows[-1]["latency_ms"] is None
