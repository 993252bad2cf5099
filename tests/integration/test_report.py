"""Reports through the command: after training, of an evaluation, of anyone's results; what cannot be reported."""

import json
import shutil
from pathlib import Path

import pytest

from rfdetr_hwd.training import run as training
from tests.integration.conftest import Run


@pytest.fixture(scope="module")
def evaluated(trained: Path, command: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output directory of an evaluation of the run, with tags."""
    out = tmp_path_factory.mktemp("evaluated")
    (out / "tags.csv").write_text("file_name,light\nvalid_00000.jpg,dark\n")
    result = command("evaluate", "--weights", trained, "--out", out, "--tags", out / "tags.csv")
    assert result.returncode == 0, result.stderr
    lead = json.loads((out / "report" / "report.json").read_text())["lead"]
    assert result.stdout.endswith("\n".join([*lead, f"report: {out / 'report.html'}\n"]))
    return out


def test_an_evaluation_is_reported_with_its_run(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text()
    assert "<td>light</td><td>dark</td>" in page
    assert page.count('class="photo"') == 8
    pictures = {path.stem for path in (evaluated / "report").glob("*.png")}
    assert pictures >= {"errors", "thresholds", "ap", "loss", "learning-rate", "speed", "memory", "bands"}
    content = json.loads((evaluated / "report" / "report.json").read_text())
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert content["metrics"] == pytest.approx({name: metrics["metrics"][name] for name in content["metrics"]})
    assert content["protocol"] == metrics["protocol"]


def test_a_report_is_made_again_from_the_files(evaluated: Path, trained: Path, cli: Run, tmp_path: Path) -> None:
    tags = evaluated / "tags.csv"
    again = cli("report", evaluated, "--tags", tags, "--out", tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "report.html").read_bytes() == (evaluated / "report.html").read_bytes()
    for path in (evaluated / "report").iterdir():
        assert (tmp_path / "report" / path.name).read_bytes() == path.read_bytes(), path.name


def test_anyone_s_results_are_reported(evaluated: Path, shapes_root: Path, cli: Run, tmp_path: Path) -> None:
    truth = shapes_root / "valid" / "_annotations.coco.json"
    files = ["--predictions", evaluated / "predictions.json", "--ground-truth", truth, "--out", tmp_path / "out"]
    result = cli("report", *files)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "report.html").read_text().count('class="photo"') == 8
    assert not (tmp_path / "out" / "report" / "loss.png").exists()
    result = cli("report", *files, "--images", tmp_path / "elsewhere")
    assert result.returncode == 2
    assert f"--images: there is no directory {tmp_path / 'elsewhere'}" in result.stderr


def test_a_report_of_moved_images_says_so(evaluated: Path, cli: Run, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "evaluation", str(tmp_path / "elsewhere")
    shutil.copytree(evaluated, folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["protocol"]["data"] = elsewhere
    (folder / "metrics.json").write_text(json.dumps(metrics))
    result = cli("report", folder)
    assert result.returncode == 0, result.stderr
    page = (folder / "report.html").read_text()
    assert f"The image files are not in {elsewhere}." in page
    assert 'class="photo"' not in page


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    evaluated: Path, trained: Path, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for work in ("cli.evaluate.measure_detector", "comparison.measured.read_results", "cli.report._read_evaluation"):
        monkeypatch.setattr(f"rfdetr_hwd.{work}", lambda *_: pytest.fail("the work began"))
    for verb in (["evaluate", "--weights", trained], ["compare", trained, f"b={evaluated}"], ["report", evaluated]):
        result = cli(*verb, "--out", tmp_path / "file" / "out")
        assert result.returncode == 2
        assert f"--out: cannot write {tmp_path / 'file' / 'out'}: {tmp_path / 'file'} is not a dir" in result.stderr


def test_tags_of_other_images_are_counted(evaluated: Path, cli: Run, tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text("file_name,light\nvalid_00000.jpg,dark\nelsewhere.jpg,dark\n")
    result = cli("report", evaluated, "--tags", tmp_path / "tags.csv", "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    notice = "--tags: images without a row, which have no tag: 7; rows of other images, which are ignored: 1\n"
    assert result.stdout.count(notice) == 1


ROW = {"image_id": 0, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", "is not a file of detections in COCO's results format: it is not a JSON list"),
        (" ", "is not a file of detections in COCO's results format: it is empty"),
        ("\x00", "is not a file of detections in COCO's results format: it is not valid JSON"),
        (json.dumps([{**ROW, "image_id": 77}]), "image_id 77 of detection 0 is not among the 8 images"),
        (json.dumps([{**ROW, "score": float("nan")}]), "it contains NaN, which is not JSON"),
    ],
)
def test_a_wrong_file_of_results_is_one_message(
    content: str, reason: str, shapes_root: Path, cli: Run, tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text(content)
    truth = shapes_root / "valid" / "_annotations.coco.json"
    out = tmp_path / "out"
    result = cli("report", "--predictions", tmp_path / "results.json", "--ground-truth", truth, "--out", out)
    assert result.returncode == 1
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()


def test_what_cannot_be_reported_says_why(trained: Path, cli: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    for arguments, status, reason in (
        ([], 2, "give a run or evaluation directory, or --predictions FILE"),
        ([trained, "--predictions", "a.json"], 2, "give a run or evaluation directory, or --predictions FILE"),
        (["--predictions", "a.json"], 2, "--predictions and --ground-truth go together"),
        ([tmp_path / "run"], 1, f"Make one with `rfdetr-hwd evaluate --weights {tmp_path / 'run'}`"),
        ([tmp_path], 1, f"{tmp_path} holds neither a run nor an evaluation: give a run directory, or the directory of"),
        ([tmp_path / "none"], 1, f"{tmp_path / 'none'} does not exist: give a run directory, or the directory of an"),
        ([tmp_path / "run" / "config.yaml"], 1, "config.yaml is a file: give a run directory, or the directory of an"),
    ):
        result = cli("report", *arguments)
        assert result.returncode == status
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_broken_evaluation_is_one_message(evaluated: Path, cli: Run, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(evaluated, tmp_path / "broken"))
    (broken / "metrics.json").write_text('{"metrics": {}}')
    result = cli("report", broken)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "metrics.json is not the file of an evaluation" in result.stderr


SHORT = ["train.epochs=1", "train.batch_size=24", "output.report=true"]


def test_a_training_ends_with_the_report_of_its_last_evaluation(cli: Run, config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = cli("train", "--config", config_file, f"output.dir={run}", *SHORT)
    assert result.returncode == 0, result.stderr
    out = run / "evaluation"
    assert result.stdout.endswith(f"report: {out / 'report.html'}\n")
    content = json.loads((out / "metrics.json").read_text())
    (record,) = (r for r in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "ema/AP" in r)
    weights = content["protocol"]["weights"]
    assert record[f"{weights}/AP"] == max(record["ema/AP"], record["raw/AP"])
    assert content["metrics"]["AP"] == record[f"{weights}/AP"]
    report = json.loads((out / "report" / "report.json").read_text())
    assert report["metrics"]["AP_large"] == pytest.approx(content["metrics"]["AP_large"])
    # the run is over: nothing is evaluated, and the report stays
    before = (out / "report.html").read_bytes()
    assert cli("train", "--resume", run).returncode == 0
    again = cli("report", run)
    assert again.returncode == 0, again.stderr
    assert (out / "report.html").read_bytes() == before


def test_a_report_that_fails_is_a_warning(
    cli: Run, config_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    original = training.last_evaluation

    def in_the_way(trainer: object) -> object:
        (run / "evaluation").write_text("a file")
        return original(trainer)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "last_evaluation", in_the_way)
        result = cli("train", "--config", config_file, f"output.dir={run}", *SHORT)
    assert result.returncode == 0, result.stderr
    (warning,) = (record.getMessage() for record in caplog.records if "report" in record.getMessage())
    assert warning.startswith(f"no report was written: output.dir: cannot write {run / 'evaluation'}: File exists.")
    assert warning.endswith(f"rfdetr-hwd report {run}")
