"""A detector takes images as programs hold them; the command takes a folder, whatever is in it, in bounded memory."""

import json
import weakref
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
import supervision as sv
import torch

from rfdetr_hwd.data.coco.ground_truth import read_annotations
from rfdetr_hwd.data.images import ImageError, read_image
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import ConfigError, Interrupted
from rfdetr_hwd.evaluation.results import read_results
from rfdetr_hwd.prediction import frames
from rfdetr_hwd.prediction.outputs import Outputs
from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused
from tests.unit.prediction.videos import write_video


@pytest.fixture(scope="module")
def detector(trained: Path) -> Detector:
    """A detector of the tiny model."""
    return Detector.load(trained)


def paths(root: Path) -> list[Path]:
    return sorted((root / "valid").glob("*.jpg"))


def test_one_image_gives_its_detections_and_several_give_a_list(detector: Detector, shapes_root: Path) -> None:
    path, other = paths(shapes_root)[:2]
    pixels = np.asarray(read_image(path))
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    expected, of_other = detector.predict(path, threshold=0.0), detector.predict(other, threshold=0.0)
    assert len(expected) > 0
    with PIL.Image.open(path) as opened:
        kinds = [str(path), opened, pixels, pixels / 255, tensor, tensor / 255]
        for kind in [path, *kinds]:
            found = detector.predict(kind, threshold=0.0)
            assert isinstance(found, sv.Detections)
            assert found == expected
        mixed = detector.predict([*kinds, other], threshold=0.0)
    batches = [[path], (path,), (p for p in [path]), pixels[None], tensor[None]]
    for batch in batches:
        (found,) = detector.predict(batch, threshold=0.0)
        np.testing.assert_array_equal(found.xyxy, expected.xyxy)
    for found in mixed[:-1]:
        np.testing.assert_allclose(found.xyxy, expected.xyxy, atol=1e-3)  # of another batch, which rounds otherwise
    np.testing.assert_allclose(mixed[-1].xyxy, of_other.xyxy, atol=1e-3)
    assert detector.predict([]) == []


class Alive:
    """Counts the images that are in memory at once."""

    def __init__(self) -> None:
        self.references: list[weakref.ref[PIL.Image.Image]] = []
        self.most = 0

    def note(self, image: PIL.Image.Image) -> PIL.Image.Image:
        self.references.append(weakref.ref(image))
        self.most = max(self.most, sum(reference() is not None for reference in self.references))
        return image


def test_images_are_taken_one_after_the_other_and_not_kept(detector: Detector) -> None:
    alive = Alive()
    images = (alive.note(PIL.Image.new("RGB", (64, 64), (value, 0, 0))) for value in range(20))
    assert len(detector.predict(images)) == 20
    assert alive.most <= 2


def test_what_cannot_be_used_is_named_by_its_place(detector: Detector, shapes_root: Path) -> None:
    path = paths(shapes_root)[0]
    with pytest.raises(ImageError, match=r"images\[1\]: cannot decode no.jpg: No such file"):
        detector.predict([path, "no.jpg"])
    with pytest.raises(ImageError, match=r"images\[2\] is None"):
        detector.predict([path, path, None])  # type: ignore[list-item]
    with pytest.raises(ImageError, match=r"the image: the shape \(3, 8, 9\)"):
        detector.predict(np.zeros((3, 8, 9), np.uint8))
    with pytest.raises(ImageError, match="not of type int"):
        detector.predict(7)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="threshold 1.5"):
        detector.predict(path, threshold=1.5)
    with pytest.raises(ConfigError, match="threshold '0.5' is not a number"):
        detector.predict(path, threshold="0.5")  # type: ignore[arg-type]


def test_predict_does_what_can_be_done_and_names_the_rest(cli: Run, trained: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "photos", tmp_path / "out"
    (source / "more").mkdir(parents=True)
    for name, size in {"a.jpg": (40, 30), "c.PNG": (3000, 1), "more/a.jpg": (30, 40)}.items():
        PIL.Image.new("RGB", size, "white").save(source / name)
    (source / "b.jpg").write_bytes(b"broken")
    (source / "notes.txt").write_text("no image")
    arguments = ("predict", source, "--weights", trained, "--threshold", 0.0, "--out")
    result = cli(*arguments, out)
    refused(result, 1, "1 of 4 images could not be read or written")
    assert f"skipped: cannot decode {source / 'b.jpg'}" in result.stdout
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written == {"a.jpg.png", "c.PNG.png", "more/a.jpg.png", "detections.json", "overview.png"}
    entries = json.loads((out / "detections.json").read_text())
    assert [entry["image"] for entry in entries] == [str(source / name) for name in ("a.jpg", "c.PNG", "more/a.jpg")]
    assert all(entry["detections"] for entry in entries)
    with PIL.Image.open(out / "overview.png") as overview:
        assert overview.size == (3 * 320, 320)
    refused(cli(*arguments, source), 2, "choose another output directory")
    (tmp_path / "empty").mkdir()
    refused(cli("predict", tmp_path / "empty", "--weights", trained), 2, "empty contains no images")


def test_predict_takes_several_sources_and_writes_several_formats(
    cli: Run, trained: Path, shapes_root: Path, tmp_path: Path
) -> None:
    """With a class filter and ids of a dataset, whose report is then the one of these detections."""
    first, *_, last = paths(shapes_root)
    truth = shapes_root / "valid" / "_annotations.coco.json"
    detector = Detector.load(trained, overrides=["model.num_select=25"])
    names = detector.class_names[:2]
    options = ["--threshold", 0, "--classes", ",".join(names), "--out", tmp_path / "out", "--ground-truth", truth]
    words = [first, "-", shapes_root / "valid" / "*_0000[2-4].jpg", "model.num_select=25"]
    words += ["--weights", trained, "--format", "json,coco", "--format", "csv", *options]
    result = cli("predict", *words, stdin=f"{last}\n{tmp_path / 'gone.jpg'}\n")
    refused(result, 1, "1 of 6 images could not be read or written")
    assert f"skipped: cannot decode {tmp_path / 'gone.jpg'}: No such file" in result.stdout
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [Path(entry["image"]).stem[-1] for entry in entries] == ["0", "7", "2", "3", "4"]
    found = [detection for entry in entries for detection in entry["detections"]]
    everything = detector.predict([entry["image"] for entry in entries], 0.0)
    assert [len(entry["detections"]) for entry in entries] == [(one.class_id < 2).sum() for one in everything]
    assert 0 < len(found) < sum(map(len, everything))
    assert len((tmp_path / "out" / "detections.csv").read_text().splitlines()) == 1 + len(found)
    results = read_results(tmp_path / "out" / "results.json", read_annotations(truth).ground_truth())
    assert len(results) == len(found)
    np.testing.assert_array_equal(results.scores, [detection["score"] for detection in found])
    assert set(results.image_ids) == {0, 2, 3, 4, 7}
    wrong = cli("predict", first, "--weights", trained, "--classes", "cow")
    refused(
        wrong, 2, "--classes: unknown class 'cow'. The model knows: " + ", ".join(Detector.load(trained).class_names)
    )
    refused(cli("predict", first, "--weights", trained, "--ground-truth", truth), 2, "--format coco")
    refused(cli("predict", "model.num_select=25", "--weights", trained), 2, "there is no image")


def test_predict_draws_every_frame_of_a_video(cli: Run, trained: Path, tmp_path: Path) -> None:
    """And names the one that is none."""
    write_video(tmp_path / "films" / "a.mkv", range(11), Fraction(1, 12))
    (tmp_path / "films" / "b.mp4").write_bytes(b"broken")
    PIL.Image.new("RGB", (40, 30)).save(tmp_path / "films" / "c.png")
    options = ("--weights", trained, "--threshold", 0.0, "--out", tmp_path / "out")
    result = cli("predict", tmp_path / "films", *options)
    refused(result, 1, "1 of 3 images and videos could not be read or written")
    assert f"skipped: cannot open {tmp_path / 'films' / 'b.mp4'}: Invalid data" in result.stdout
    assert f"{12 * 10} detections in 12 frames" in result.stdout
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [entry.get("frame") for entry in entries] == [*range(11), None]
    with av.open(str(tmp_path / "out" / "a.mkv.mp4")) as container:
        assert container.streams.video[0].average_rate == 12
        assert sum(1 for _ in container.decode(video=0)) == 11


def test_predict_holds_few_images_at_once(
    cli: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many and large they are: of the overview, too, only thumbnails are kept."""
    for number in range(15):
        PIL.Image.new("RGB", (40, 30)).save(tmp_path / f"{number:02}.png")
    alive = Alive()
    monkeypatch.setattr(frames, "read_image", lambda path, **how: alive.note(read_image(path, **how)))
    monkeypatch.setattr(frames, "_BATCH_PIXELS", 2 * 40 * 30)
    result = cli("predict", tmp_path, "--weights", trained, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert alive.most <= 4  # two batches of two


def test_num_select_reaches_every_road(cli: Run, trained: Path, shapes_root: Path, tmp_path: Path) -> None:
    """Evaluation and prediction give as many detections as it says, not as there are queries."""
    more = "model.num_select=25"  # of 10 queries
    assert cli("evaluate", "--weights", trained, "--out", tmp_path / "e", more).returncode == 0
    detections = json.loads((tmp_path / "e" / "predictions.json").read_text())
    per_image = np.bincount([detection["image_id"] for detection in detections])
    assert 10 < per_image.max() <= 25
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["protocol"]["num_select"] == 25
    source = ("predict", shapes_root / "valid", "--weights", trained, "--threshold", 0.0, "--out", tmp_path / "p")
    assert cli(*source, more).returncode == 0
    entries = json.loads((tmp_path / "p" / "detections.json").read_text())
    assert [len(entry["detections"]) for entry in entries] == per_image[per_image > 0].tolist()
    too_many = "model.num_select=41: 10 queries and 4 classes make 40 pairs"
    refused(cli("evaluate", "--weights", trained, "model.num_select=41"), 2, too_many)


def test_tiles_are_scored_as_they_are_predicted(cli: Run, trained: Path, shapes_root: Path, tmp_path: Path) -> None:
    """The evaluation of tiles measures exactly what `predict` finds in them."""
    truth = shapes_root / "valid" / "_annotations.coco.json"
    tiles = ("--weights", trained, "--tiles", 64, "--overlap", 0.5, "--out")
    result = cli("evaluate", *tiles, tmp_path / "e")
    assert result.returncode == 0, result.stderr
    protocol = json.loads((tmp_path / "e" / "metrics.json").read_text())["protocol"]
    assert protocol["tiles"] == {"size": 64, "overlap": 0.5, "merge": "NMS per class, IoS 0.5"}
    options = ("--threshold", 0, "--format", "coco", "--ground-truth", truth)
    assert cli("predict", shapes_root / "valid", *tiles, tmp_path / "p", *options).returncode == 0
    files = (tmp_path / "e" / "predictions.json", tmp_path / "p" / "results.json")
    measured, predicted = (
        sorted((r["image_id"], r["category_id"], r["score"], *r["bbox"]) for r in json.loads(file.read_text()))
        for file in files
    )
    assert len(measured) > 8
    np.testing.assert_allclose(measured, predicted, rtol=1e-5, atol=1e-4)
    smaller = "--tiles 32 is smaller than the model's input of 64 pixels"
    refused(cli("evaluate", "--weights", trained, "--tiles", 32), 2, smaller)
    refused(cli("predict", shapes_root / "valid", "--weights", trained, "--tiles", 32), 2, smaller)
    refused(cli("evaluate", *tiles, tmp_path / "s", "--shifts", 1), 2, "--tiles cannot be measured with --shifts")


def test_the_default_threshold_is_the_recorded_one(trained: Path, shapes_root: Path) -> None:
    detector = Detector.load(trained)
    recorded = detector.checkpoint.state.current_metrics[f"{detector.weights}/threshold"]
    assert detector.threshold == (0.5 if recorded is None else recorded)
    image = next((shapes_root / "valid").glob("*.jpg"))
    everything = detector.predict(image, threshold=0.0)
    assert len(detector.predict(image)) == (everything.confidence >= detector.threshold).sum()
    first, *others = detector.class_names
    of_first = detector.predict(image, threshold={first: 0.0, **dict.fromkeys(others, 1.0)})
    assert set(of_first.data["class_name"]) <= {first}
    assert len(of_first) == (everything.data["class_name"] == first).sum()
    with pytest.raises(ConfigError, match=f"no threshold of the class '{first}'"):
        detector.predict(image, threshold={})
    with pytest.raises(ConfigError, match="there is no class 'dog'. The classes are "):
        detector.predict(image, threshold={**detector.class_thresholds, "dog": 0.5})


def test_a_stopped_prediction_says_what_is_kept(
    trained: Path, shapes_root: Path, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Outputs.add

    def stopped(outputs: Outputs, *arguments: object) -> None:
        if outputs.frames == 2:
            raise Interrupted(130)
        add(outputs, *arguments)

    monkeypatch.setattr(Outputs, "add", stopped)
    result = cli("predict", shapes_root / "valid", "--weights", trained, "--out", tmp_path / "out")
    assert result.returncode == 130
    assert f"Stopped. {tmp_path / 'out'} holds what was detected in 2 images or frames" in result.stdout
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 2


@pytest.mark.parametrize("path", [None, 7, ["runs/mine"], b"runs/mine"])
def test_a_model_that_is_no_path_is_one_message(path: object) -> None:
    with pytest.raises(ConfigError, match=r"a model is the path of a run or checkpoint directory, not (None|7|\[|b')"):
        Detector.load(path)  # type: ignore[arg-type]


def test_a_url_is_for_the_command(detector: Detector) -> None:
    with pytest.raises(ImageError, match="it is a URL, which `rfdetr-hwd predict` reads"):
        detector.predict("https://example.org/a.jpg")
