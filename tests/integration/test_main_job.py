"""Train, evaluate, predict and resume through the installed command, on a tiny real model."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch
import yaml
from pycocotools.coco import COCO

from rfdetr_hwd.checkpoint.read import open_checkpoint
from rfdetr_hwd.cli.evaluate import evaluate
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes
from rfdetr_hwd.evaluation.coco import COCO_METRICS, CocoMetric
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training.trackers import read_metrics
from tests.integration.conftest import Run
from tests.integration.runs import last_step


def test_a_run_leaves_what_it_promises(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {
        ".lock",
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "speed.jsonl",
        "checkpoints",
        "best",
    }
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["step-00000006", "step-00000012"]
    checkpoint = open_checkpoint(trained / "checkpoints" / "step-00000012")
    assert checkpoint.record.class_names == ("circle", "square", "triangle", "star")
    assert checkpoint.record.category_ids == (1, 2, 3, 4)
    assert yaml.safe_load((trained / "config.yaml").read_text()) == checkpoint.record.config
    records = read_metrics(trained / "metrics.jsonl")
    assert [record["step"] for record in records if "loss" in record] == list(range(1, 13))
    assert [record["step"] for record in records if "ema/AP" in record] == [6, 12]
    (start,) = json.loads((trained / "run.json").read_text())["starts"]
    assert "torch" in start["environment"]["packages"]
    assert start["config"] == checkpoint.record.config
    assert start["data"]["training_data"] == checkpoint.record.training_data.model_dump()
    derived = start["derived"]
    assert (derived["steps_per_epoch"], derived["total_steps"], derived["world_size"]) == (6, 12, 1)
    assert derived["trained_parameters"] == sum(group["parameters"] for group in derived["learning_rate_groups"])
    best = {name: getattr(checkpoint.state, f"best_{name}") for name in ("ap", "step", "weights")}
    assert start["end"].pop("time") > start["time"]
    message = "the run is complete: 2 epochs, 12 steps"
    assert start["end"] == {"reason": "completed", "message": message, "step": 12, "epoch": 2, "best": best}
    train = start["config"]["train"]
    rates = {
        "lr": train["lr"],
        "lr_decoder": train["lr"] * train["component_decay"],
        "lr_encoder": train["lr_encoder"] * train["component_decay"] ** 2,
    }
    for record in (record for record in records if "loss" in record):
        for name, rate in rates.items():
            assert record[name] == pytest.approx(rate * record["lr_factor"], rel=1e-12), name


def test_a_class_that_no_object_has_has_no_figure(trained: Path) -> None:
    """Nor have large objects, in images of 96 pixels; -1 stands nowhere for it."""
    for record in read_metrics(trained / "metrics.jsonl"):
        assert -1 not in record.values()
        if "ema/AP" in record:
            assert record["ema/AP_large"] is None


def test_early_stopping_says_why_and_when(cli: Run, config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    short = ["train.batch_size=24", "train.micro_batch=12", "train.epochs=5", "train.ema=false"]
    still = ["train.multi_scale=false", "train.lr=1e-9", "train.early_stop=1"]
    result = cli("train", "--config", config_file, f"output.dir={run}", *short, *still)
    assert result.returncode == 0, result.stderr
    said = (
        "early stopping at step 2, after epoch 2 of 5: the last evaluation did not exceed the best AP (0.0000, of step "
        "1); train.early_stop=1"
    )
    assert said in result.stdout.splitlines()
    (start,) = json.loads((run / "run.json").read_text())["starts"]
    assert (start["end"]["reason"], start["end"]["message"]) == ("early_stopping", said)
    assert (start["end"]["step"], start["end"]["best"]) == (2, {"ap": 0.0, "step": 1, "weights": "raw"})
    result = cli("train", "--resume", run)
    assert f"{said}. To continue, raise train.early_stop, or set it to null" in result.stdout.splitlines()
    assert last_step(run) == 2


@pytest.mark.parametrize("which", ["ema", "raw"])
def test_evaluate_equals_the_evaluation_in_training(trained: Path, command: Run, tmp_path: Path, which: str) -> None:
    newest = trained / "checkpoints" / "step-00000012"
    result = command("evaluate", "--weights", newest, "--which", which, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "metrics.json").read_text())
    in_training = read_metrics(trained / "metrics.jsonl")[-1]
    assert content["metrics"] == {
        name.removeprefix(f"{which}/"): value for name, value in in_training.items() if name.startswith(f"{which}/")
    }
    protocol = content["protocol"]
    assert protocol["weights"] == which
    assert protocol["weights_sha256"] == open_checkpoint(newest).weights_sha256(which)
    assert (protocol["max_dets"], protocol["resolution"]) == ([1, 10, 100], 64)
    detections = json.loads((tmp_path / "predictions.json").read_text())
    assert len(detections) > 10
    truth = COCO(tmp_path / "ground_truth.json")  # what their ids stand for; they are results in COCO's format
    assert len(truth.loadRes(str(tmp_path / "predictions.json")).anns) == len(detections)
    assert {i: image["file_name"] for i, image in truth.imgs.items()} == {i: f"valid_{i:05d}.jpg" for i in range(8)}
    assert {i: c["name"] for i, c in truth.cats.items()} == {1: "circle", 2: "square", 3: "triangle", 4: "star"}
    assert {d["category_id"] for d in detections} <= {1, 2, 3, 4}


def fingerprint(metric: CocoMetric) -> dict[str, float]:
    """A metric that every digit of every detection enters: the tiny model's AP is zero."""
    found = metric.detections
    total = (found.scores * (1 + found.boxes_xywh.sum(axis=1)) * found.category_ids + found.image_ids).sum()
    return {**dict.fromkeys(COCO_METRICS, 0.0), "AP": float(total)}


@pytest.mark.slow
@pytest.mark.parametrize("which", ["ema", "raw"])
def test_evaluate_equals_training_to_the_last_digit(
    tiny_config: Config, tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CocoMetric, "compute", fingerprint)
    config_file, run = tmp_path / "c.yaml", Path(tiny_config.output.dir)
    config_file.write_text(tiny_config.to_yaml())
    train_command.run(config_file, None, ["train.epochs=1", "train.lr=1e-3"])
    in_training = read_metrics(run / "metrics.jsonl")[-1]
    evaluate(run, ["evaluation.batch_size=3", "data.workers=1"], which=which, out=tmp_path / "out")
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]["AP"]
    assert in_training["ema/AP"] != in_training["raw/AP"]
    assert measured == pytest.approx(in_training[f"{which}/AP"], rel=1e-6)  # other batches round otherwise
    evaluate(run, which=which, out=tmp_path / "out")
    measured = json.loads((tmp_path / "out" / "metrics.json").read_text())["metrics"]["AP"]
    assert measured == in_training[f"{which}/AP"]


def test_predict_draws_and_lists(trained: Path, command: Run, shapes_root: Path, tmp_path: Path) -> None:
    result = command("predict", shapes_root / "test", "--weights", trained, "--out", tmp_path, "--threshold", 0.0)
    assert result.returncode == 0, result.stderr
    entries = json.loads((tmp_path / "detections.json").read_text())
    assert [Path(entry["image"]).name for entry in entries] == ["test_00000.jpg", "test_00001.jpg"]
    for entry in entries:
        with PIL.Image.open(entry["picture"]) as picture:
            assert picture.size == (96, 80)
        assert 0 < len(entry["detections"]) <= 10
        for detection in entry["detections"]:
            x0, y0, x1, y1 = detection["box_xyxy"]
            assert 0 <= x0 <= x1 <= 96
            assert 0 <= y0 <= y1 <= 80
    assert (tmp_path / "overview.png").exists()


@pytest.mark.slow
def test_two_runs_with_one_seed_are_one_run(trained: Path, command: Run, config_file: Path, tmp_path: Path) -> None:
    trackers = [name for name in ("tensorboard", "wandb", "mlflow") if importlib.util.find_spec(name)]
    run, options = tmp_path / "run", ["data.workers=2", f"output.trackers=[{','.join(trackers)}]"]
    result = command("train", "--config", config_file, f"output.dir={run}", *options)
    assert result.returncode == 0, result.stderr
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == read_metrics(trained / "metrics.jsonl")
    assert "AP" in result.stdout
    assert "the tracker" not in result.stderr  # none has failed
    assert len(list((run / "tensorboard").glob("events.*"))) == 1
    pictures = [path.name for path in run.glob("mlruns/*/*/artifacts/predictions/0/*.png")]
    assert sorted(pictures) == (["step-00000006.png", "step-00000012.png"] if "mlflow" in trackers else [])


def test_fine_tuning_starts_from_a_run_with_other_classes(trained: Path, command: Run, tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_shapes(root, ShapesSpec(train=4, valid=2, test=1, width=96, height=80, max_objects=2))
    for split in ("train", "valid", "test"):
        path = root / split / "_annotations.coco.json"
        path.write_text(path.read_text().replace('"star"', '"comet"'))
    result = command(
        "train", "--config", trained / "config.yaml", f"data.root={root}", f"output.dir={tmp_path / 'run'}",
        f"model.pretrain_weights={trained}", "train.epochs=1",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "3 of 4 classes known" in result.stdout.replace("\n", " ")


@pytest.mark.slow
def test_two_ranks_are_one_process(command: Run, config_file: Path, tmp_path: Path) -> None:
    """torchrun with two processes makes the same steps, and evaluates each image once."""
    plain = ["model.dropout=0", "model.drop_path=0", "train.epochs=1", "train.micro_batch=null"]
    single, double = tmp_path / "single", tmp_path / "double"
    assert command("train", "--config", config_file, f"output.dir={single}", *plain).returncode == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    result = subprocess.run(
        [*launcher, "-m", "rfdetr_hwd", "train", "--config", str(config_file), f"output.dir={double}", *plain],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    records = [read_metrics(run / "metrics.jsonl") for run in (single, double)]
    assert [set(record) for record in records[0]] == [set(record) for record in records[1]]
    for one, two in zip(records[0][:2], records[1][:2], strict=True):  # later ones carry AdamW's rounding
        assert two == pytest.approx(one, rel=1e-4)
    last = last_step(single)
    weights = [open_checkpoint(run / "checkpoints" / f"step-{last:08d}").weights("raw") for run in (single, double)]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=2e-3)
    assert command("evaluate", "--weights", double, "--out", tmp_path / "e").returncode == 0
    metrics = json.loads((tmp_path / "e" / "metrics.json").read_text())["metrics"]
    kind = open_checkpoint(double / "best").better_weights
    in_training = {name: value for name, value in records[1][-1].items() if name.startswith(f"{kind}/")}
    assert {f"{kind}/{name}": value for name, value in metrics.items()} == pytest.approx(in_training, abs=1e-6)
