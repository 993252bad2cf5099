"""A run that is used from another directory, and after a move: each verb finds the data, or says where it looked."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import Run


@pytest.mark.slow
def test_each_verb_finds_the_data_of_a_run_that_moved(
    config_file: Path, shapes_root: Path, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    shutil.copytree(shapes_root, home / "data")

    def succeeds(*arguments: object) -> str:
        result = cli(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    # Train where the data is
    monkeypatch.chdir(home)
    succeeds("train", "--config", config_file, "data.root=data", "output.dir=run", "train.epochs=1")
    start = json.loads((home / "run" / "run.json").read_text())["starts"][0]
    assert start["data"]["root_from_run"] == "../data"

    # Use it from another directory
    monkeypatch.chdir(elsewhere)
    run = Path("..") / "home" / "run"
    expected = f"using {home / 'data'}, as the run recorded"
    assert expected in succeeds("evaluate", "--weights", run)
    assert expected in succeeds("export", "--weights", run, "--out", "stock.pth")
    assert expected in succeeds("train", "--resume", run, "--accept", "train.epochs", "train.epochs=2")
    assert yaml.safe_load((home / "run" / "config.yaml").read_text())["data"]["root"] == "data"
    succeeds("report", run)
    assert 'class="photo"' in (home / "run" / "evaluate-val" / "report.html").read_text()

    # Move both
    home.rename(tmp_path / "new")
    run = Path("..") / "new" / "run"
    succeeds("report", run)
    assert 'class="photo"' in (tmp_path / "new" / "run" / "evaluate-val" / "report.html").read_text()
    assert f"using {tmp_path / 'new' / 'data'}" in succeeds("evaluate", "--weights", run)

    # Lose the data
    shutil.rmtree(tmp_path / "new" / "data")
    for verb in (
        ["evaluate", "--weights", run],
        ["export", "--weights", run, "--out", "s.pth"],
        ["train", "--resume", run],
    ):
        result = cli(*verb)
        assert result.returncode in {1, 2}
        for place in (elsewhere / "data", home / "data", tmp_path / "new" / "data", "Give data.root=DIR"):
            assert str(place) in result.stderr
    assert "the images are at none of" in succeeds("report", run)
