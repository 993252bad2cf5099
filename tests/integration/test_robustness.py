"""Shifts and corruptions through the command, on a tiny real run."""

import json
import shutil
from pathlib import Path

import pytest

from rfdetr_hwd.data.corruptions import KINDS
from tests.integration.conftest import Run
from tests.integration.runs import finish, start

ROBUSTNESS = ["--shifts", 2, "--corruptions", "--severities", 1]


@pytest.fixture(scope="module")
def options(command: Run, trained: Path, shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Evaluate the run on what it detects itself: it learned little, but here its AP is high."""
    first, root = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("own") / "shapes"
    result = command("evaluate", "--weights", trained, "--out", first)
    assert result.returncode == 0, result.stderr
    shutil.copytree(shapes_root, root)
    truth = json.loads((first / "ground_truth.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    annotations = []
    for found in json.loads((first / "predictions.json").read_text()):
        x, y, width, height = found["bbox"]
        x, y, right, bottom = max(x, 0), max(y, 0), *map(min, (x + width, y + height), sizes[found["image_id"]])
        ids = {"id": len(annotations) + 1, "image_id": found["image_id"], "category_id": found["category_id"]}
        box = [x, y, right - x, bottom - y]
        if sum(one["image_id"] == found["image_id"] for one in annotations) < 3:
            annotations.append({**ids, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    (file,) = (root / "valid").glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": annotations}))
    return ["evaluate", "--weights", trained, f"data.root={root}"]


@pytest.fixture(scope="module")
def measured(command: Run, options: list[object], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of an evaluation with shifts and corruptions, and what was printed."""
    out = tmp_path_factory.mktemp("robustness")
    result = command(*options, *ROBUSTNESS, "--out", out)
    assert result.returncode == 0, result.stderr
    return out, result.stdout


def recorded(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_robustness_stands_beside_the_metrics(
    measured: tuple[Path, str], options: list[object], cli: Run, tmp_path: Path
) -> None:
    out, printed = measured
    found = recorded(out)
    shifts, corruptions = found["robustness"]["shifts"], found["robustness"]["corruptions"]
    assert (len(shifts["AP"]), len(shifts["kept"])) == (3, 2)
    assert all(0 <= kept < 1 for kept in shifts["kept"])
    assert shifts["AP"][0] == found["metrics"]["AP"]
    assert (shifts["AP_worst"], shifts["AP_best"]) == (min(shifts["AP"]), max(shifts["AP"]))
    assert {kind: [*aps] for kind, aps in corruptions["AP"].items()} == {kind: ["1"] for kind in KINDS}
    mean = sum(aps["1"] for aps in corruptions["AP"].values()) / len(KINDS)
    assert found["metrics"]["AP"] > 0.5
    assert corruptions["mPC"] == pytest.approx(mean)
    assert corruptions["rPC"] == pytest.approx(mean / found["metrics"]["AP"])
    assert len({*shifts["AP"], *(aps["1"] for aps in corruptions["AP"].values())}) > 5, "the network sees other images"
    for text in ("shift 2 of 2 px: AP 0.", "contrast 1: AP 0.", "mPC, their mean: 0.", "severity 1"):
        assert text in printed

    # The files of the evaluation are those of images as they are.
    assert cli(*options, "--out", tmp_path).returncode == 0
    assert {**recorded(tmp_path), "robustness": found["robustness"]} == found
    for name in ("predictions.json", "ground_truth.json"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.slow
def test_batches_and_workers_do_not_matter(
    measured: tuple[Path, str], options: list[object], cli: Run, tmp_path: Path
) -> None:
    other = ["--corruptions", "--severities", 1, "evaluation.batch_size=3", "data.workers=2"]
    assert cli(*options, *other, "--out", tmp_path).returncode == 0
    found, expected = (recorded(folder)["robustness"]["corruptions"]["AP"] for folder in (tmp_path, measured[0]))
    assert [aps["1"] for aps in found.values()] == pytest.approx([aps["1"] for aps in expected.values()], abs=1e-6)


@pytest.mark.slow
def test_ranks_measure_together(measured: tuple[Path, str], options: list[object], tmp_path: Path) -> None:
    status, output = finish(start(*options, *ROBUSTNESS, "--out", tmp_path, ranks=2))
    assert status == 0, output
    assert output.count("shift 1 of 2 px") == 1
    found, expected = (recorded(folder)["robustness"] for folder in (tmp_path, measured[0]))
    assert found["shifts"]["AP"] == pytest.approx(expected["shifts"]["AP"], abs=1e-6)
    assert found["shifts"]["kept"] == expected["shifts"]["kept"]
    assert found["corruptions"]["mPC"] == pytest.approx(expected["corruptions"]["mPC"], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--corruptions", "--severities", "0,9"],
            "--severities 0,9: give different numbers from 1 to 5, such as 1,3,5",
        ),
        (["--severities", "1"], "--severities 1 has no effect without --corruptions: add it"),
        (["--shifts", "-1"], "Invalid value for '--shifts': Input should be greater than or equal to 0"),
        (["--shifts", "33"], "Invalid value for '--shifts': Input should be less than or equal to 32"),
    ],
)
@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_bad_options_are_refused(cli: Run, verb: str, options: list[str], message: str) -> None:
    what = ["--weights", "nowhere"] if verb == "evaluate" else ["nowhere", "elsewhere"]
    result = cli(verb, *what, *options)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.lower().count("error:") == 1
