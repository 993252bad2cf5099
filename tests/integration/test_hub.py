"""A run as a hub directory: the same detections, stock keys, a card of what was recorded."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from huggingface_hub import ModelCard

from rfdetr_hwd.detector import Detector
from rfdetr_hwd.export.export import sample_images
from rfdetr_hwd.export.hub import FILES, export_hub
from rfdetr_hwd.model.fold import fold_model
from rfdetr_hwd.model.release import load_released
from tests.integration.conftest import Run


@pytest.fixture(scope="module")
def hub(trained: Path, shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hub directory of the run."""
    out, detector = tmp_path_factory.mktemp("hub") / "model", Detector.load(trained)
    export_hub(detector, out, sample_images(detector, shapes_root / "valid"), "mit")
    return out


def test_the_directory_gives_the_same_detections(hub: Path, trained: Path, shapes_root: Path) -> None:
    run, loaded = Detector.load(trained), Detector.load(hub)
    assert loaded.class_names == run.class_names
    assert loaded.threshold == run.threshold
    assert loaded.class_thresholds == run.class_thresholds
    images = sorted((shapes_root / "valid").glob("*.jpg"))
    for mine, theirs in zip(run.predict(images, 0.0), loaded.predict(images, 0.0), strict=True):
        np.testing.assert_allclose(theirs.xyxy, mine.xyxy, atol=1e-2)
        np.testing.assert_allclose(theirs.confidence, mine.confidence, atol=1e-5)
        assert theirs.class_id.tolist() == mine.class_id.tolist()


def test_the_weights_are_those_of_stock_rfdetr(hub: Path, trained: Path, tmp_path: Path) -> None:
    """By the lines of the card, which need none of this package."""
    assert {path.name for path in hub.iterdir()} == set(FILES)
    stock = fold_model(Detector.load(trained).model).network.state_dict()
    state = safetensors.torch.load_file(hub / "model.safetensors")
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in stock.items()}
    config = json.loads((hub / "config.json").read_text())
    assert list(config["id2label"].values()) == ["circle", "square", "triangle", "star"]
    torch.save({"model": state, **config["rfdetr"]}, tmp_path / "stock.pth")
    released = load_released(tmp_path / "stock.pth")
    assert released.class_names == ["circle", "square", "triangle", "star"]
    assert all(torch.equal(value, state[key]) for key, value in released.network.state_dict().items())


def test_the_card_and_the_record_name_no_place_of_this_machine(hub: Path, trained: Path, shapes_root: Path) -> None:
    for name in ("README.md", "config.json", "preprocessor_config.json", "record.json", "manifest.json"):
        text = (hub / name).read_text()
        assert str(trained.parent) not in text
        assert str(shapes_root.parent) not in text
    card = ModelCard((hub / "README.md").read_text())
    assert card.data.license == "mit"
    recorded = json.loads((trained / "run.json").read_text())["starts"][-1]["data"]
    assert recorded["training_data"]["sha256"] in card.text
    assert "There are no intervals" in card.text  # the run of the tests has no report


@pytest.mark.slow
def test_an_evaluated_run_has_intervals_and_the_directory_is_evaluated_alike(
    trained: Path, cli: Run, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run", symlinks=True)
    assert cli("evaluate", "--weights", tmp_path / "run").returncode == 0
    export = ["export", "--weights", tmp_path / "run", "--format", "hub", "--out", tmp_path / "it's mine"]
    result = cli(*export, "--license", "mit")
    assert result.returncode == 0, result.stderr
    assert "hub: loaded again, raw outputs on 8 images differ by" in result.stdout
    assert "rfdetr-hwd push '" in result.stdout
    assert "is not empty" in cli(*export).stderr
    (tmp_path / "it's mine").rename(tmp_path / "hub")
    report = json.loads((tmp_path / "run" / "evaluate-val" / "report" / "report.json").read_text())
    low, high = report["intervals"]["AP"]["low"], report["intervals"]["AP"]["high"]
    assert f"{low:.3f} to {high:.3f} |" in (tmp_path / "hub" / "README.md").read_text()
    root = json.loads((trained / "run.json").read_text())["starts"][-1]["data"]["root_absolute"]
    result = cli("evaluate", "--weights", tmp_path / "hub", f"data.root={root}")
    assert result.returncode == 0, result.stderr
    measured = json.loads((tmp_path / "hub" / "evaluate-val" / "metrics.json").read_text())["metrics"]
    assert measured["AP"] == pytest.approx(report["metrics"]["AP"], abs=1e-6)
