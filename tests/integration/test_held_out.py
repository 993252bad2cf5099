"""A dataset without a validation split is trained on with a part of it held out, which every later verb finds again."""

import json
import shutil
from pathlib import Path

import pytest

from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.read import read_split
from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused
from tests.unit.data.voc_files import voc_xml

SHORT = ["data.val_fraction=0.25", "train.micro_batch=null", "train.multi_scale=false"]


def write_voc(source: Path, root: Path) -> Path:
    """Write the training images of the built-in dataset as Pascal VOC without lists."""
    data = read_split(find_layout(source).split("train"))
    (root / "Annotations").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for row, name in enumerate(map(str, data.file_names)):
        shutil.copy(data.path(row), root / "JPEGImages" / name)
        boxes, labels = data.objects(row)
        things = [
            (data.class_names[label], x0 + 1, y0 + 1, x1, y1)
            for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist(), strict=True)
        ]
        height, width = data.sizes[row].tolist()
        size = f"<width>{width}</width><height>{height}</height>"
        (root / "Annotations" / f"{Path(name).stem}.xml").write_text(voc_xml(*things, size=size))
    return root


def held_out_of(run: Path) -> list[list[int]]:
    """Return which images each start of a run held out."""
    return [start["held_out"]["image_ids"] for start in json.loads((run / "run.json").read_text())["starts"]]


@pytest.mark.slow
def test_voc_without_a_validation_list_is_trained_measured_and_continued(
    cli: Run, config_file: Path, shapes_root: Path, tmp_path: Path
) -> None:
    root, run = write_voc(shapes_root, tmp_path / "voc"), tmp_path / "run"
    start = ["train", "--config", config_file, f"data.root={root}", f"output.dir={run}", *SHORT]
    trained = cli(*start, "train.epochs=1")
    assert trained.returncode == 0, trained.stderr
    assert "18 training and 6 validation images" in trained.stdout
    assert "held out for validation: 6 of 24 images (data.val_fraction=0.25, data.val_seed=0)" in trained.stdout
    (held_out,) = held_out_of(run)
    assert len(set(held_out)) == 6
    assert cli("evaluate", "--weights", run).returncode == 0
    measured = json.loads((run / "evaluate-val/metrics.json").read_text())
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert measured["metrics"]["AP"] in [value for key, value in last.items() if key.endswith("/AP")]
    assert measured["protocol"]["split"] == "train (held out)"
    assert {entry["image_id"] for entry in json.loads((run / "evaluate-val/predictions.json").read_text())} == set(
        held_out
    )
    continued = cli("train", "--resume", run, "train.epochs=2", "--accept", "train.epochs")
    assert continued.returncode == 0, continued.stderr
    assert "comparing" not in continued.stdout
    assert held_out_of(run) == [held_out] * 2
    refused(cli("train", "--resume", run, "data.val_seed=1"), 2, "data.val_seed (was 0, is 1) cannot be changed")
    refused(cli("evaluate", "--weights", run, "data.val_seed=1"), 2, "It trained on other images")
    refused(cli("evaluate", "--weights", run, f"data.root={shapes_root}"), 2, "has a validation split, valid")
    assert cli("evaluate", "--weights", run, f"data.root={shapes_root}", "data.val_fraction=null").returncode == 0
