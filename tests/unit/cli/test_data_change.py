"""The functions behind `data convert`, `data split` and `data download`: what they write and what they print."""

import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.cli.data.convert import convert
from rfdetr_hwd.cli.data.download import download
from rfdetr_hwd.cli.data.split import split
from rfdetr_hwd.curation import split as splitting
from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.errors import ConfigError
from tests.unit.data.voc_files import CAT, voc_xml, write_devkit, write_files


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    write_shapes(tmp_path / "shapes", ShapesSpec(train=30, valid=4, test=2, width=64, height=48))
    return tmp_path / "shapes"


def table(said: str, title: str) -> list[list[str]]:
    """Return the cells of the rows of a table that was printed under a title."""
    lines = said.partition(f"{title}\n")[2].splitlines()
    end = next(number for number, line in enumerate(lines) if line.startswith("└"))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines[:end] if line.startswith("│")]


def test_convert_both_ways(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(shapes, "yolo", tmp_path / "yolo")
    there = table(capsys.readouterr().out, "roboflow to yolo")
    counts = {row[0]: row[1:] for row in there}
    assert {name: row[:2] for name, row in counts.items()} == {
        "train": ["30", "30"],
        "valid": ["4", "4"],
        "test": ["2", "2"],
    }
    convert(tmp_path / "yolo", "coco", tmp_path / "coco")
    said = capsys.readouterr().out
    assert said.endswith(f"dataset: {tmp_path / 'coco'}\n")
    for row in table(said, "yolo to coco"):
        role, name = {"train": "train", "val": "valid", "test": "test"}[row[0]], row[5]
        images, objects = row[1], row[3]
        assert row == [row[0], images, images, objects, objects, role if role == name else name, images, objects]
        assert counts[name] == [images, images, objects, objects, name, images, objects]
        assert len(list((tmp_path / "coco" / name).glob("*.jpg"))) == int(images)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="has no known layout. Found no files"):
        convert(tmp_path / "empty", "coco", tmp_path / "same")
    assert not (tmp_path / "same").exists()
    with pytest.raises(DatasetError, match="there is no directory"):
        convert(tmp_path / "none", "coco", tmp_path / "voc")


def test_voc_to_yolo_and_the_same_format_in_its_usual_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_devkit(tmp_path / "voc")
    convert(root, "yolo", tmp_path / "yolo")
    said = capsys.readouterr().out
    assert table(said, "voc to yolo") == [
        ["train", "2", "2", "3", "3", "train", "2", "3"],
        ["val", "2", "2", "1", "1", "valid", "2", "1"],
    ]
    assert "valid: images without objects: 1" in said
    assert "difficult_object: 1, used like any other object, the first: " in said
    assert (
        tmp_path / "yolo/train/labels/a.txt"
    ).read_text() == "2 0.5 0.5 1 1\n1 0.234375 0.520833333333 0.15625 0.208333333333\n"
    convert(tmp_path / "yolo", "yolo", tmp_path / "again")
    assert [path.read_bytes() for path in sorted((tmp_path / "again").rglob("*.txt"))] == [
        path.read_bytes() for path in sorted((tmp_path / "yolo").rglob("*.txt"))
    ]


def test_wrong_entries_are_skipped_named_and_can_be_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"{name}.jpg": "" for name in "abc"} | {f"{name}.xml": voc_xml(CAT) for name in "abd"}
    root = write_files(tmp_path / "voc", {**files, "b.xml": voc_xml(("cat", "x", 1, 2, 3), CAT), "e/logo.png": ""})
    with pytest.raises(DatasetError, match="one was written without the invalid entries:") as caught:
        convert(root, "coco", tmp_path / "one")
    assert "d.xml: there is no image for it" in str(caught.value)
    assert "b.xml: object 1: 'cat' must have a box of four numbers" in str(caught.value)
    assert "or accept with --allow missing_file --allow bad_box" in str(caught.value)
    with pytest.raises(DatasetError, match="accept with --allow bad_box"):
        convert(root, "coco", tmp_path / "two", ["missing_file"])
    capsys.readouterr()
    with pytest.raises(ConfigError, match="--allow: 'bad_bx' is no kind of finding"):
        convert(root, "coco", tmp_path / "out", ["bad_bx"])
    convert(root, "coco", tmp_path / "out", ["missing_file", "bad_box"])
    written = [(tmp_path / name / "train/_annotations.coco.json").read_bytes() for name in ("one", "two", "out")]
    assert written[0] == written[1] == written[2]
    said = capsys.readouterr().out
    assert table(said, "voc to coco") == [
        ["train", "4", "3", "4", "2", "train", "3", "2"],
        ["(in no split)", "1", "0", "", "", "", "", ""],
    ]
    for line in (
        "train: images skipped, missing_file: 1",
        "train: objects skipped, bad_box: 1",
        "train: objects skipped with their image, class or file: 1",
        f"images in no split, ignored: 1, the first: {root / 'e/logo.png'}",
        "train: images without objects: 1",
    ):
        assert f"{line}\n" in said


def test_errors_that_cast_doubt_on_the_rest_end_a_conversion(tmp_path: Path) -> None:
    """A class that is not there, and labels of which none can be read; what else is wrong is named with them."""
    files = {"data.yaml": "train: images\nnames: [x]\n", "images/a.jpg": "", "images/b.jpg": ""}
    a, b = "labels/a.txt", "labels/b.txt"
    shifted = write_files(tmp_path / "shifted", {**files, a: "0 .5 .5 .2 .2", b: "1 .5 .5 .2 .2\n0 .5"})
    with pytest.raises(DatasetError, match="--allow bad_annotation --allow unknown_category"):
        convert(shifted, "coco", tmp_path / "out")
    pixels = write_files(tmp_path / "pixels", {**files, a: "0 15 12 20 16", b: "0 15 12 20 16"})
    with pytest.raises(DatasetError, match="looks like pixels"):
        convert(pixels, "coco", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_conversion_to_nothing_is_an_error(tmp_path: Path) -> None:
    root = write_files(tmp_path / "yolo", {"data.yaml": "train: images\nnames: [x]\n", "images/a.jpg": ""})
    with pytest.raises(DatasetError, match="has 1 images without any object: there is nothing to convert"):
        convert(root, "coco", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="has no known layout"):
        convert(tmp_path / "empty", "coco", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"yolo", "empty"}


def test_one_unreadable_image_is_skipped_of_a_split(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one").mkdir()
    (shapes / "train").rename(tmp_path / "one" / "train")
    convert(tmp_path / "one", "yolo", tmp_path / "yolo")  # other formats are divided as well
    objects = sum(len(path.read_text().splitlines()) for path in (tmp_path / "yolo").rglob("labels/*.txt"))
    broken = tmp_path / "yolo/train/images/train_00003.jpg"
    lost = len((tmp_path / "yolo/train/labels/train_00003.txt").read_text().splitlines())
    content = broken.read_bytes()
    broken.unlink()  # a link
    broken.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"(?s)train_00003.jpg: image \d+: .*--allow unreadable_image"):
        split(tmp_path / "yolo", tmp_path / "one_less")
    assert len(list((tmp_path / "one_less").rglob("*.jpg"))) == 29
    capsys.readouterr()
    split(tmp_path / "yolo", tmp_path / "out", to="yolo", allow=["unreadable_image"])
    said = capsys.readouterr().out
    assert table(said, "read and used") == [["train", "30", "29", str(objects), str(objects - lost)]]
    assert "train: images skipped, unreadable_image: 1\n" in said
    assert f"train: objects skipped with their unreadable image: {lost}\n" in said
    written = list((tmp_path / "out").rglob("labels/*.txt"))
    assert len(written) == len(list((tmp_path / "out").rglob("images/*.jpg"))) == 29
    assert sum(len(path.read_text().splitlines()) for path in written) == objects - lost
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"data.yaml", "train", "valid", "test"}


def test_split_one_annotated_split(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DatasetError, match="must have one annotated split to divide, but has 3: train, valid, test"):
        split(shapes, tmp_path / "out")
    (tmp_path / "one").mkdir()
    (shapes / "train").rename(tmp_path / "one" / "train")
    split(tmp_path / "one", tmp_path / "out")
    said = capsys.readouterr().out
    assert "near-duplicates: 0 images in 0 groups" in said
    row = next(line for line in said.splitlines() if line.startswith("│ images"))
    counts = {name: len(list((tmp_path / "out" / name).glob("*.jpg"))) for name in ("train", "valid", "test")}
    assert row.replace("│", " ").split() == ["images", "30", *map(str, counts.values())]
    assert [abs(count - wanted) <= 1 for count, wanted in zip(counts.values(), (24, 3, 3), strict=True)] == [True] * 3


@pytest.mark.parametrize("fractions", ["0.8", "a,b,c", "0.9,0.2,-0.1", "0.5,0.2,0.2", "nan,0,1", ""])
def test_shares_that_are_none_are_a_usage_error(shapes: Path, tmp_path: Path, fractions: str) -> None:
    with pytest.raises(ConfigError, match=f"--fractions {fractions}: "):
        split(shapes, tmp_path / "out", fractions)


def test_download_an_archive(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as contents:
        for path in shapes.rglob("*.*"):
            contents.write(path, Path("inside") / path.relative_to(shapes))
    download((tmp_path / "x.zip").as_uri(), tmp_path / "out")
    said = capsys.readouterr().out
    assert "unpacked: 39 files" in said
    assert "found: roboflow, splits train, valid, test" in said
    assert f"dataset: {tmp_path / 'out' / 'inside'}" in said
    with pytest.raises(DatasetError, match="checksum mismatch of .*: its sha256 is"):
        download((tmp_path / "x.zip").as_uri(), tmp_path / "other", "0" * 64)
    assert not (tmp_path / "other").exists()


def test_download_from_roboflow_needs_three_names_and_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROBOFLOW_API_KEY", raising=False)
    for what in ("team/project", "team//1", "dataset.zip", ""):
        with pytest.raises(ConfigError, match="neither WORKSPACE/PROJECT/VERSION of Roboflow nor a URL"):
            download(what, tmp_path / "out")
    with pytest.raises(ConfigError, match="--sha256 works with a URL only"):
        download("team/project/1", tmp_path / "out", "0" * 64)
    with pytest.raises(DatasetError, match="ROBOFLOW_API_KEY is not set"):
        download("team/project/1", tmp_path / "out")


def test_dark_files_are_divided_by_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shapes(tmp_path / "shapes", ShapesSpec(train=4, valid=1, test=1, width=64, height=48))
    for name in ("valid", "test"):
        (tmp_path / "shapes" / name).rename(tmp_path / name)
    for path in (tmp_path / "shapes" / "train").glob("*.jpg"):
        PIL.Image.fromarray(np.full((48, 64), 3000, dtype=np.uint16)).save(path, "PNG")
    seen: list[DetectionData] = []

    divide = splitting.divide
    monkeypatch.setattr(splitting, "divide", lambda data, *how: (seen.append(data), divide(data, *how))[1])
    with pytest.raises(DatasetError, match="too few"):  # one group: they look the same
        split(tmp_path / "shapes", tmp_path / "out", "0.5,0.25,0.25")
    assert [data.options.bit_depth for data in seen] == [12]


def test_a_dataset_is_not_written_into_itself(shapes: Path) -> None:
    for write in (convert, split):
        arguments = (shapes, "yolo", shapes / "yolo") if write is convert else (shapes, shapes / "parts")
        with pytest.raises(DatasetError, match="choose a directory outside of it"):
            write(*arguments, train="train")
    assert sorted(path.name for path in shapes.iterdir()) == ["test", "train", "valid"]
