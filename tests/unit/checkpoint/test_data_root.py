"""The data of a run that was moved, or that is used from another directory."""

import json
import os
from pathlib import Path

import pytest

from rfdetr_hwd.checkpoint.data_root import describe_root, locate_data, locate_images
from rfdetr_hwd.config.schema import DataSection
from rfdetr_hwd.data.findings import DatasetError

GIVEN = DataSection(root="data")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in home/runs/a that was started in home, with its data in home/data. The current directory is another."""
    run = tmp_path / "home" / "runs" / "a"
    run.mkdir(parents=True)
    (tmp_path / "home" / "data" / "valid").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    recorded = describe_root(Path("data"), "data", Path("runs/a"))
    assert recorded == {
        "root": "data",
        "root_absolute": str((tmp_path / "home/data").resolve()),
        "root_from_run": os.path.join("..", "..", "data"),
    }
    (run / "run.json").write_text(json.dumps({"starts": [{"data": {"root": "older"}}, {"data": recorded}]}))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return run


def test_data_that_is_there_as_given_is_used(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "elsewhere" / "data").mkdir()
    assert locate_data(GIVEN, run) is GIVEN
    assert capsys.readouterr().out == ""


def test_from_another_directory_the_absolute_path_is_used(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = locate_data(GIVEN, run)
    assert found == GIVEN.model_copy(update={"root": str(tmp_path / "home" / "data")})
    assert f"using {tmp_path / 'home' / 'data'}, as the run recorded" in capsys.readouterr().out


def test_a_run_that_moved_with_its_data_finds_it(run: Path, tmp_path: Path) -> None:
    (tmp_path / "home").rename(tmp_path / "new")
    moved = tmp_path / "new" / "runs" / "a"
    assert locate_data(GIVEN, moved).root == str(tmp_path / "new" / "data")
    # The images of an evaluation are found there, too, whether it recorded them as given or absolute
    for recorded in ("data/valid", str(tmp_path / "home" / "data" / "valid")):
        assert [place for place in locate_images(recorded, moved) if place.is_dir()] == [tmp_path / "new/data/valid"]


def test_all_places_that_were_tried_are_named(run: Path, tmp_path: Path) -> None:
    run.rename(tmp_path / "moved")
    (tmp_path / "home" / "data" / "valid").rmdir()
    (tmp_path / "home" / "data").rmdir()
    with pytest.raises(DatasetError) as caught:
        locate_data(GIVEN, tmp_path / "moved")
    places = [Path.cwd() / "data", tmp_path / "home" / "data", tmp_path.parent / "data"]
    tried = ", ".join(map(str, places))
    assert str(caught.value) == f"data.root: the dataset is at none of {tried}. Give data.root=DIR"


@pytest.mark.parametrize("root", ["other", "/nowhere/at/all"])
def test_another_root_than_the_run_s_is_not_replaced(root: str, run: Path) -> None:
    settings = DataSection(root=root)
    assert locate_data(settings, run) is settings


@pytest.mark.parametrize("log", [None, "{", '{"starts": [{"data": 3}]}', '{"starts": [{"data": {"root": "data"}}]}'])
def test_a_run_that_recorded_no_place_is_left_alone(log: str | None, run: Path) -> None:
    if log is None:
        (run / "run.json").unlink()
    else:
        (run / "run.json").write_text(log)
    assert locate_data(GIVEN, run) is GIVEN
    assert locate_images("data/valid", run) == [Path("data/valid")]
