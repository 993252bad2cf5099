"""The functions behind `data convert`, `data split` and `data download`: what they write and what they print."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.commands import data_change
from rfdetr_hwd.commands.data_change import run_convert, run_download, run_split
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.shapes import ShapesSpec, write_shapes
from rfdetr_hwd.errors import ConfigError


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    write_shapes(tmp_path / "shapes", ShapesSpec(train=30, valid=4, test=2, width=64, height=48))
    return tmp_path / "shapes"


def test_convert_both_ways(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_convert(shapes, "yolo", tmp_path / "yolo")
    said = capsys.readouterr().out
    assert "roboflow to yolo: written" in said
    assert {line.split()[1] for line in said.splitlines() if line.startswith("│")} == {"train", "valid", "test"}
    run_convert(tmp_path / "yolo", "coco", tmp_path / "coco")
    assert f"dataset: {tmp_path / 'coco'}" in capsys.readouterr().out
    for split, count in (("train", 30), ("valid", 4), ("test", 2)):
        assert len(list((tmp_path / "coco" / split).glob("*.jpg"))) == count
    with pytest.raises(ConfigError, match="--to voc: the formats to write are coco and yolo"):
        run_convert(shapes, "voc", tmp_path / "voc")
    for source, to in ((shapes, "coco"), (tmp_path / "yolo", "yolo")):
        with pytest.raises(DatasetError, match=f"from that there is no way to {to}"):
            run_convert(source, to, tmp_path / "same")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="is not a Pascal VOC dataset: looked for"):
        run_convert(tmp_path / "empty", "coco", tmp_path / "same")
    assert not (tmp_path / "same").exists()
    with pytest.raises(DatasetError, match="there is no folder"):
        run_convert(tmp_path / "none", "coco", tmp_path / "voc")


def test_split_one_annotated_split(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DatasetError, match="must have one annotated split to divide; it has 3: train, valid, test"):
        run_split(shapes, tmp_path / "out", "0.8,0.1,0.1", 0)
    (tmp_path / "one").mkdir()
    (shapes / "train").rename(tmp_path / "one" / "train")
    run_split(tmp_path / "one", tmp_path / "out", "0.8,0.1,0.1", 0)
    said = capsys.readouterr().out
    assert "near-duplicates: 0 images in 0 groups" in said
    row = next(line for line in said.splitlines() if line.startswith("│ images"))
    counts = {name: len(list((tmp_path / "out" / name).glob("*.jpg"))) for name in ("train", "valid", "test")}
    assert row.replace("│", " ").split() == ["images", "30", *map(str, counts.values())]
    assert [abs(count - wanted) <= 1 for count, wanted in zip(counts.values(), (24, 3, 3), strict=True)] == [True] * 3


@pytest.mark.parametrize("fractions", ["0.8", "a,b,c", "0.9,0.2,-0.1", "0.5,0.2,0.2", "nan,0,1", ""])
def test_shares_that_are_none_are_a_usage_error(shapes: Path, tmp_path: Path, fractions: str) -> None:
    with pytest.raises(ConfigError, match=f"--fractions {fractions}: "):
        run_split(shapes, tmp_path / "out", fractions, 0)
    with pytest.raises(ConfigError, match="--seed -1 is negative"):
        run_split(shapes, tmp_path / "out", "0.8,0.1,0.1", -1)


def test_download_an_archive(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as contents:
        for path in shapes.rglob("*.*"):
            contents.write(path, Path("inside") / path.relative_to(shapes))
    run_download((tmp_path / "x.zip").as_uri(), tmp_path / "out", None)
    said = capsys.readouterr().out
    assert "unpacked: 39 files" in said
    assert "found: roboflow, splits train, valid, test" in said
    assert f"dataset: {tmp_path / 'out' / 'inside'}" in said
    with pytest.raises(DatasetError, match="has the sha256"):
        run_download((tmp_path / "x.zip").as_uri(), tmp_path / "other", "0" * 64)
    assert not (tmp_path / "other").exists()


def test_download_from_roboflow_needs_three_names_and_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOFLOW_API_KEY", raising=False)
    for what in ("team/project", "team//1", "dataset.zip", ""):
        with pytest.raises(ConfigError, match="neither WORKSPACE/PROJECT/VERSION of Roboflow nor an address"):
            run_download(what, tmp_path / "out", None)
    with pytest.raises(ConfigError, match="--sha256 goes with an address"):
        run_download("team/project/1", tmp_path / "out", "0" * 64)
    with pytest.raises(DatasetError, match="ROBOFLOW_API_KEY is not set"):
        run_download("team/project/1", tmp_path / "out", None)


def test_importing_the_commands_loads_no_torch() -> None:
    code = "import sys, rfdetr_hwd.commands.data_change; print('torch' in sys.modules, 'supervision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_dark_files_are_divided_by_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shapes(tmp_path / "shapes", ShapesSpec(train=4, valid=1, test=1, width=64, height=48))
    for name in ("valid", "test"):
        (tmp_path / "shapes" / name).rename(tmp_path / name)
    for path in (tmp_path / "shapes" / "train").glob("*.jpg"):
        PIL.Image.fromarray(np.full((48, 64), 3000, dtype=np.uint16)).save(path, "PNG")
    seen: list[DetectionData] = []
    monkeypatch.setattr(data_change, "split_dataset", lambda data, *_: seen.append(data))
    monkeypatch.setattr(data_change, "_print_split", lambda *_: None)
    run_split(tmp_path / "shapes", tmp_path / "out", "0.5,0.25,0.25", 0)
    assert [data.options.bit_depth for data in seen] == [12]
