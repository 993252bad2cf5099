"""The files about detections hold exactly what was found, in each format, whatever ends the work."""

import csv
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.data.coco.ground_truth import read_annotations
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.evaluation.results import read_results
from rfdetr_hwd.prediction.growing_file import GrowingFile
from rfdetr_hwd.prediction.outputs import FORMATS, Outputs, choose_formats
from rfdetr_hwd.report.pictures import draw_detections
from tests.unit.prediction.frames import CAT, CLASS_NAMES, DOG, found, frame


def write(out: Path, *formats: str) -> Outputs:
    """Write detections of three images; nothing is found in the second."""
    outputs = Outputs(out, CLASS_NAMES, formats)
    with outputs:
        outputs.add(frame("a.jpg"), found(CAT, DOG))
        outputs.add(frame("more/b.jpg", (10, 10)), found())
        outputs.add(frame("more/a.jpg"), found(CAT))
    return outputs


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def test_json_and_csv_have_each_detection(tmp_path: Path) -> None:
    outputs = write(tmp_path, "json", "csv")
    assert (outputs.frames, outputs.detections, outputs.failed) == (3, 3, set())
    assert files(tmp_path) == {"detections.json", "detections.csv"}
    cat = {"class": "cat", "score": 0.75, "box_xyxy": [10, 5, 30, 15]}
    dog = {"class": "dog/puppy", "score": 0.5, "box_xyxy": [-1, 0, 8.5, 20.5]}
    assert json.loads((tmp_path / "detections.json").read_text()) == [
        {"image": "photos/a.jpg", "detections": [cat, dog]},
        {"image": "photos/more/b.jpg", "detections": []},
        {"image": "photos/more/a.jpg", "detections": [cat]},
    ]
    rows = list(csv.reader((tmp_path / "detections.csv").open()))
    assert rows == [
        ["image", "frame", "seconds", "class", "score", "x1", "y1", "x2", "y2", "track"],
        ["photos/a.jpg", "", "", "cat", "0.75", "10.0", "5.0", "30.0", "15.0", ""],
        ["photos/a.jpg", "", "", "dog/puppy", "0.5", "-1.0", "0.0", "8.5", "20.5", ""],
        ["photos/more/a.jpg", "", "", "cat", "0.75", "10.0", "5.0", "30.0", "15.0", ""],
    ]


def test_tracks_are_numbered_in_the_lists_and_pictures(tmp_path: Path) -> None:
    """A detection without a track has none."""
    tracked = found(CAT, DOG)
    tracked.tracker_id = np.array([7, -1])
    plain = draw_detections(frame("a.jpg", (200, 100)).image, found(CAT, DOG), CLASS_NAMES)
    numbered = draw_detections(frame("a.jpg", (200, 100)).image, tracked, CLASS_NAMES)
    assert (np.asarray(plain) != np.asarray(numbered)).any()
    with Outputs(tmp_path, CLASS_NAMES, ["json", "csv"]) as outputs:
        outputs.add(frame("a.jpg"), tracked)
    (entry,) = json.loads((tmp_path / "detections.json").read_text())
    assert [detection["track"] for detection in entry["detections"]] == [7, None]
    assert [row[-1] for row in csv.reader((tmp_path / "detections.csv").open())] == ["track", "7", ""]


def test_pictures_are_named_in_the_json(tmp_path: Path) -> None:
    write(tmp_path, "pictures", "json")
    assert files(tmp_path) == {"a.jpg.png", "more/a.jpg.png", "more/b.jpg.png", "overview.png", "detections.json"}
    named = [entry["picture"] for entry in json.loads((tmp_path / "detections.json").read_text())]
    assert named == [str(tmp_path / name) for name in ("a.jpg.png", "more/b.jpg.png", "more/a.jpg.png")]
    drawn = np.asarray(PIL.Image.open(named[0]))
    assert (drawn != 128).any()
    assert (np.asarray(PIL.Image.open(named[1])) == 128).all()


def test_coco_annotations_are_a_dataset(tmp_path: Path) -> None:
    write(tmp_path, "coco")
    content = json.loads((tmp_path / "coco.json").read_text())
    assert content["images"][1] == {"id": 2, "file_name": "more/b.jpg", "width": 10, "height": 10}
    assert content["annotations"][0] == {
        **{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 5, 20, 10], "area": 200},
        **{"iscrowd": 0, "score": 0.75},
    }
    assert [(entry["id"], entry["image_id"], entry["category_id"]) for entry in content["annotations"]] == [
        (1, 1, 1),
        (2, 1, 2),
        (3, 3, 1),
    ]
    assert read_annotations(tmp_path / "coco.json").class_names == CLASS_NAMES


def test_coco_results_have_the_ids_of_the_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images are found by their path, or by their name if it is the only one; the report reads the file."""
    images = {7: "more/a.jpg", 9: "x/b.jpg", 11: "a.jpg", 12: "other.jpg"}
    truth = {
        "images": [{"id": i, "file_name": name, "width": 40, "height": 20} for i, name in images.items()],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0}],
        "categories": [{"id": 5, "name": "cat"}, {"id": 6, "name": "bird"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    data = read_annotations(tmp_path / "truth.json")
    with Outputs(tmp_path, CLASS_NAMES, ["coco"], data) as outputs:
        outputs.add(frame("a.jpg"), found(CAT, DOG))
        outputs.add(frame("unknown.jpg"), found(CAT))
        outputs.add(frame("b.jpg"), found(DOG))
        outputs.add(frame("more/a.jpg"), found((0, 0.25, (0, 0, 4, 2))))
    assert outputs.files == {"COCO results": tmp_path / "results.json"}
    results = read_results(tmp_path / "results.json", data.ground_truth())
    assert results.to_results() == [
        {"image_id": 11, "category_id": 5, "bbox": [10, 5, 20, 10], "score": 0.75},
        {"image_id": 7, "category_id": 5, "bbox": [0, 0, 4, 2], "score": 0.25},
    ]
    said = capsys.readouterr().out
    assert "images without results, because the ground truth lacks them: 1" in said
    assert "images of the ground truth without results: 1 of 4" in said


def test_yolo_labels_are_relative_to_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = Outputs(tmp_path, CLASS_NAMES, ["yolo"])
    with outputs:
        outputs.add(frame("a.jpg"), found(CAT, (1, 0.5, (0.0, 0.0, 20.0, 5.0))))
        outputs.add(frame("more/b.jpg"), found())
        outputs.add(frame("a.png"), found(CAT))
    assert files(tmp_path) == {"labels/a.txt", "labels/more/b.txt", "classes.txt"}
    assert (tmp_path / "labels/a.txt").read_text() == (
        "0 0.500000 0.500000 0.500000 0.500000\n1 0.250000 0.125000 0.500000 0.250000\n"
    )
    assert (tmp_path / "labels/more/b.txt").read_text() == ""
    assert (tmp_path / "classes.txt").read_text() == "cat\ndog/puppy\n"
    assert (outputs.failed, outputs.frames) == ({"photos/a.png"}, 3)
    assert "not written: photos/a.png: another image has the YOLO labels" in capsys.readouterr().out


def test_crops_are_the_pixels_of_the_boxes(tmp_path: Path) -> None:
    shot = frame("a.jpg")
    shot.image.paste((255, 0, 0), (10, 5, 30, 15))
    with Outputs(tmp_path, CLASS_NAMES, ["crops"]) as outputs:
        outputs.add(shot, found(CAT, DOG, (0, 0.3, (40, 20, 45, 25))))
    assert files(tmp_path) == {"crops/0-cat/a.jpg-1.jpg", "crops/1-dog_puppy/a.jpg-2.jpg"}
    cat = np.asarray(PIL.Image.open(tmp_path / "crops/0-cat/a.jpg-1.jpg")).astype(int)
    assert cat.shape == (10, 20, 3)
    assert np.abs(cat - (255, 0, 0)).max() < 40
    assert PIL.Image.open(tmp_path / "crops/1-dog_puppy/a.jpg-2.jpg").size == (9, 20)


def test_formats_are_named_with_commas_or_one_by_one() -> None:
    assert choose_formats([]) == ["pictures", "json"]
    assert choose_formats(["coco,csv", " json", "csv"]) == ["coco", "csv", "json"]
    with pytest.raises(ConfigError, match="--format cocoa: choose among pictures, json, coco, yolo, csv, crops"):
        choose_formats(["json,cocoa"])


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let no file grow beyond a size, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def add_many(outputs: Outputs) -> None:
    for number in range(100):
        outputs.add(frame(f"{number}.jpg"), found(CAT))


@pytest.mark.parametrize("limit", range(300, 420, 17))
def test_a_full_disk_costs_the_last_image_alone(tmp_path: Path, limit: int) -> None:
    """The work ends, and what was written before is there, and can be read."""
    outputs = Outputs(tmp_path, CLASS_NAMES, ["json", "csv", "coco"])
    with pytest.raises(OSError, match="File too large"), outputs, file_limit(limit):
        add_many(outputs)
    done = outputs.frames
    entries = json.loads((tmp_path / "detections.json").read_text())
    rows = list(csv.reader((tmp_path / "detections.csv").open()))
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert done > 0
    assert {len(entries), len(rows) - 1, len(coco["annotations"])} <= {done, done + 1}
    assert all(len(row) == 10 for row in rows)
    assert files(tmp_path) == {"detections.json", "detections.csv", "coco.json"}


def test_a_file_is_whole_after_each_part(tmp_path: Path) -> None:
    path, partial = tmp_path / "list.json", tmp_path / ".list.json.partial"
    file = GrowingFile(path, b"[", b"]\n")
    assert json.loads(partial.read_text()) == []
    file.append(b"1")
    file.append(b", 22")
    assert json.loads(partial.read_text()) == [1, 22]
    assert not path.exists()
    file.close(iter([b", 3", b"]"]))
    assert json.loads(path.read_text()) == [1, 22, 3]
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["list.json"]


def test_a_format_that_fails_at_the_end_does_not_stop_the_others(tmp_path: Path) -> None:
    class Failing:
        def add(self, *_: object) -> None: ...

        def close(self) -> dict[str, Path]:
            raise OSError("at the end")

    outputs = Outputs(tmp_path, CLASS_NAMES, ["json"])
    outputs._writers.insert(0, Failing())
    outputs._writers.append(Failing())
    with pytest.raises(OSError, match="at the end"), outputs:
        outputs.add(frame("a.jpg"), found(CAT))
    assert len(json.loads((tmp_path / "detections.json").read_text())) == 1
    assert set(FORMATS) == {"pictures", "json", "coco", "yolo", "csv", "crops"}
