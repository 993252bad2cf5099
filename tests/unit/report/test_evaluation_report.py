"""The report of an evaluation: its files, numbers and sections, hostile names, evaluations without anything."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageColor
import pytest

from rfdetr_hwd.analysis.errors import KINDS
from rfdetr_hwd.analysis.tags import TagsError
from rfdetr_hwd.report.errors_gallery import CORRECT, OTHER, list_errors
from rfdetr_hwd.report.evaluation_files import write_evaluation_report
from rfdetr_hwd.report.evaluation_page import build_evaluation_page
from rfdetr_hwd.report.evaluation_pictures import draw_worst
from rfdetr_hwd.report.evaluation_plots import KIND_COLOURS
from rfdetr_hwd.report.evaluation_report import find
from rfdetr_hwd.report.training_curves import (
    RunRecords,
    drawn_per_epoch,
    last_bands,
    plot_bands,
    plot_losses,
    plot_precision,
)
from tests.unit.report.evaluations import CAT, COW, DOG, FOUND, HOSTILE, OBJECTS, make_inputs
from tests.unit.report.test_page import Reader

PLOTS = {"errors", "precision-recall", "classes", "thresholds", "confusion", "reliability", "sizes"}
OF_OBJECTS = {"errors", "precision-recall", "classes", "sizes"}
TABLES = {"per_class.csv", "thresholds.csv", "errors.csv", "confusion.csv", "report.json"}
HEADINGS = [*("Metrics", "Errors", "Worst images", "Thresholds", "Classes", "Object sizes", "Calibration", "Protocol")]


def headings(page: str) -> list[str]:
    return re.findall("<h2>(.*?)</h2>", page)


def test_the_files_the_sentences_and_the_sections(tmp_path: Path) -> None:
    sentences = write_evaluation_report(make_inputs(tmp_path), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "report"}
    pictures = {*(f"{name}.png" for name in PLOTS), "worst-01.jpg"}
    assert {path.name for path in (tmp_path / "out" / "report").iterdir()} == TABLES | pictures
    page = (tmp_path / "out" / "report.html").read_text()
    assert headings(page) == HEADINGS
    assert [text for text in Reader(page).texts if text in sentences] == sentences
    assert len(sentences) == 3
    assert sentences[0].startswith("AP 0.")
    assert "EMA weights at step 12: 5 detections in 3 images with 5 objects of 3 classes." in page


def test_hostile_names_are_texts(tmp_path: Path) -> None:
    write_evaluation_report(make_inputs(tmp_path), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    reader = Reader(page)
    assert "script" not in reader.tags
    assert HOSTILE in reader.texts
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    rows = list(csv.reader((tmp_path / "out" / "report" / "per_class.csv").open()))
    assert [row[0] for row in rows] == ["class", HOSTILE, "'=dog", "cow"]


def test_the_numbers_are_those_counted_by_hand(tmp_path: Path) -> None:
    write_evaluation_report(make_inputs(tmp_path), tmp_path / "out")
    content = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    assert 0.85 < content["threshold"] <= 0.9  # above both errors
    assert content["errors"] == {**dict.fromkeys(KINDS, 0), "missed": 2}
    assert [one["num_objects"] for one in content["classes"]] == [2, 2, 1]
    assert content["metrics"]["AP"] == pytest.approx(np.mean([1.0, 51 / 101, 0.0]))
    assert content["intervals"]["AP"]["value"] == content["metrics"]["AP"]
    rows = list(csv.DictReader((tmp_path / "out" / "report" / "errors.csv").open()))
    assert [(row["image_id"], row["kind"], row["class"], row["x0"]) for row in rows] == [
        ("0", "missed", "'=dog", "100.0"),
        ("0", "missed", "cow", "60.0"),
    ]
    confusion = list(csv.reader((tmp_path / "out" / "report" / "confusion.csv").open()))
    assert [row[1:] for row in confusion[1:]] == [[*"2000"], [*"0101"], [*"0001"], [*"0000"]]


def test_ap_at_more_detections_is_beside_ap(tmp_path: Path) -> None:
    """The only true detection comes after 119 others of its class: COCO's AP does not see it."""
    found = [(0, "cow", DOG, 0.9)] * 119 + [(0, "cow", COW, 0.1)]
    inputs = make_inputs(tmp_path, [(0, "cow", COW)], found, 1)
    findings = find(replace(inputs, protocol={**inputs.protocol, "max_dets_extra": 200}))
    names = [*findings.metrics]
    assert names[:3] == ["AP", "AP@200", "AP50"]
    assert (findings.metrics["AP"], findings.metrics["AP@200"]) == (0, pytest.approx(1 / 120))
    assert "AP with 200 detections an image and class" in build_evaluation_page(inputs, findings, {})
    for number in (None, "200", 100):  # it was not measured, or the file is wrong
        assert [*find(replace(inputs, protocol={"max_dets_extra": number})).metrics] == [names[0], *names[2:]]


def test_the_worst_image_shows_each_error_in_its_colour(tmp_path: Path) -> None:
    # More true detections than wrong ones below the errors' scores move the best threshold below them.
    more = [(image, HOSTILE, CAT) for image in range(3, 9)]
    found = [*FOUND, *((*one, 0.5) for one in more)]
    inputs = make_inputs(tmp_path, OBJECTS + more, found, num_images=9)
    findings = find(inputs)
    assert findings.threshold <= 0.5
    pictures, gap = draw_worst(inputs, findings)
    assert (list(pictures), gap) == (["worst-01", "worst-02"], "")
    first = pictures["worst-01"]
    pixels = np.asarray(first.image).astype(int)
    scale, right = 460 / 200, 460 + 6
    assert pixels.shape == (230, 2 * 460 + 6, 3)

    def colour_at(x: float, y: float, offset: int = 0) -> str:
        found = pixels[round(y * scale), round(x * scale) + offset]
        names = {"correct": CORRECT, "other": OTHER, **KIND_COLOURS}
        distances = {name: np.abs(found - PIL.ImageColor.getrgb(value)).max() for name, value in names.items()}
        return min((name for name in distances if distances[name] < 4), key=distances.__getitem__, default="none")

    middle = DOG[0] + DOG[2] / 2
    assert colour_at(CAT[0] + 20, CAT[1]) == colour_at(CAT[0] + 20, CAT[1], right) == "correct"
    assert colour_at(middle + 15, DOG[1]) == "other"
    assert colour_at(middle + 20, DOG[1], right) == "wrong class"
    assert colour_at(70, 84) == "none"
    assert colour_at(70, 89.5) == "missed"
    assert colour_at(190, 90) == colour_at(190, 90, right) == "none"
    assert first.caption.splitlines()[1:] == ["missed: 1 cow", f"wrong class: 2 {HOSTILE} 0.80 (truth: =dog)"]
    assert pictures["worst-02"].caption.splitlines()[1:] == ["background: 1 =dog 0.85"]


def test_a_long_list_of_errors_is_cut(tmp_path: Path) -> None:
    objects = [(0, "cow", [float(10 * x), 10.0, 8.0, 8.0]) for x in range(15)]
    (image,) = find(make_inputs(tmp_path, objects, [(0, "cow", [0, 10, 8, 8], 0.9)], num_images=1)).images
    text = list_errors(image.errors)
    assert text.startswith("missed: 1 cow, 2 cow")
    assert text.endswith("12 cow, and 2 more")


def test_without_images_the_page_says_so(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    write_evaluation_report(replace(inputs, has_images=False), tmp_path / "out")
    assert "No image can be shown. The image files are not in" in (tmp_path / "out" / "report.html").read_text()
    for path in tmp_path.glob("*.png"):
        path.unlink()
    write_evaluation_report(inputs, tmp_path / "out")
    assert "No image can be shown. 1 image cannot be read" in (tmp_path / "out" / "report.html").read_text()
    assert not list((tmp_path / "out" / "report").glob("*.jpg"))


@pytest.mark.parametrize(
    ("objects", "found", "sentence", "missing"),
    [
        (OBJECTS, [], "Nothing is found: 5 objects are without a correct detection.", {"thresholds", "reliability"}),
        ([], FOUND, "AP is not defined: 3 images without an object.", OF_OBJECTS),
        ([], [], "AP is not defined: 3 images without an object.", PLOTS),
    ],
)
def test_a_plot_that_would_be_empty_is_not_there(
    objects: list[tuple], found: list[tuple], sentence: str, missing: set[str], tmp_path: Path
) -> None:
    assert sentence in write_evaluation_report(make_inputs(tmp_path, objects, found), tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out" / "report").glob("*.png")} == PLOTS - missing


def test_tags_have_a_section_and_a_wrong_file_is_refused_first(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    path = tmp_path / "tags.csv"
    path.write_text(f"file_name,light\n{inputs.data.file_names[0]},dark\n{inputs.data.file_names[1]},bright\n")
    write_evaluation_report(replace(inputs, tags=path), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert headings(page) == [*HEADINGS[:-1], "Tags", "Protocol"]
    assert '<td>light</td><td>bright</td><td class="number">1</td><td class="number">1</td>' in page
    assert "1 image has no tag." in page
    path.write_text("name\n")
    with pytest.raises(TagsError, match="the header must be file_name"):
        write_evaluation_report(replace(inputs, tags=path), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_without_a_model_sizes_are_those_of_the_image(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    stretched = [one.low for one in find(inputs).sizes]
    own = [one.low for one in find(replace(inputs, protocol={"predictions": "a.json"})).sizes]
    assert own == [20.0, 40.0, 50.0]
    assert stretched == pytest.approx([size / 2**0.5 for size in own])  # 200 x 100 become 100 x 100


def records() -> RunRecords:
    """A run of four steps, resumed at the second, evaluated twice, with one module of two bands."""
    losses = [{"step": step, "loss": 4.0 / step, "lr": 1e-3, "lr_encoder": 1e-3} for step in (1, 2, 3, 4)]
    evaluations = [
        {"step": step, "ema/AP": 0.1 * step, "raw/AP": None, "bands/p5/LL": 1 - 0.1 * step, "bands/p5/cH": 0.1 * step}
        for step in (2, 4)
    ]
    speed = [{"step": step, "images_per_second": 10.0, "memory_gib": 1.5} for step in (1, 2, 3, 4)]
    config = {"model": {"variant": "nano"}, "train": {"epochs": 2}}
    return RunRecords([*losses, *evaluations], speed, [{"step": 0}, {"step": 2}], config)


def test_a_run_adds_its_curves_and_its_bands(tmp_path: Path) -> None:
    write_evaluation_report(replace(make_inputs(tmp_path), run=records()), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert headings(page) == [*HEADINGS[:-1], "Training", "Wavelet bands", "Protocol"]
    drawn = {path.stem for path in (tmp_path / "out" / "report").glob("*.png")}
    assert drawn == PLOTS | {"loss", "ap", "learning-rate", "speed", "memory", "bands"}
    assert "It was resumed once, at step 2." in page
    assert "<td>model.variant</td><td>nano</td>" in page
    assert '<td>p5</td><td class="number">60.0%</td><td class="number">40.0%</td>' in page


def test_curves_are_the_records(tmp_path: Path) -> None:
    run = records()
    losses, precision = plot_losses(run), plot_precision(run)
    assert losses is not None
    assert precision is not None
    lines = losses.axes[0].get_lines()
    assert lines[0].get_xydata().tolist() == [[1, 4.0], [2, 2.0], [3, 4 / 3], [4, 1.0]]
    assert set(lines[1].get_xdata()) == {2}  # the resume
    assert precision.axes[0].get_lines()[0].get_xydata() == pytest.approx(np.array([[2, 0.2], [4, 0.4]]))
    assert last_bands(run) == [("p5", pytest.approx([0.6, 0.4, 0, 0, 0]))]


def test_a_run_that_drew_by_class_says_what_it_drew(tmp_path: Path) -> None:
    """The mean of two evaluated epochs."""
    drawn = [
        {"step": 2, "drawn/images": 40, "drawn/background_images": 0, "drawn/objects/a_cell": 10},
        {"step": 4, "drawn/images": 40, "drawn/background_images": 3, "drawn/objects/a_cell": 15},
    ]
    run = replace(records(), metrics=[*records().metrics, *drawn])
    assert drawn_per_epoch(run) == {"images": 40, "background_images": 1.5, "objects/a_cell": 12.5}
    assert drawn_per_epoch(records()) == {}
    write_evaluation_report(replace(make_inputs(tmp_path), run=run), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert '<td>background images</td><td class="number">2</td>' in page
    assert '<td>a_cell</td><td class="number">12</td>' in page


def test_a_run_without_records_has_no_curves() -> None:
    empty = RunRecords([{"step": 1, "loss": None, "ema/AP": float("nan")}])
    assert [plot(empty) for plot in (plot_losses, plot_precision, plot_bands)] == [None] * 3
    assert last_bands(empty) == []


def test_the_same_evaluation_gives_the_same_page(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    for out in ("a", "b"):
        write_evaluation_report(inputs, tmp_path / out)
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()
