"""`data audit --folds` judges each training image by a run that held it out, and continues after an interruption."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from rfdetr_hwd.checkpoint.read import list_checkpoints
from rfdetr_hwd.checkpoint.record import find_checkpoint
from rfdetr_hwd.training.trackers import read_metrics
from tests.integration.conftest import Run
from tests.integration.runs import finish, last_step, start
from tests.integration.test_bad_input import refused


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".html", ".json")}


@pytest.mark.slow
def test_folds_are_trained_once_and_judge_what_they_held_out(
    trained: Path, shapes_root: Path, command: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["data", "audit", trained, "--folds", 2, "--threshold", 0.02, "--out", out]

    # Stop it while the first fold trains.
    process = start(*arguments)
    while not list_checkpoints(out / "fold-1" / "checkpoints"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    status, printed = finish(process)
    assert status == 128 + signal.SIGTERM, printed
    assert f"folds: 2 runs of 2 epochs, each on about 12 of 24 training images, in {out}: 2 new, 0 started" in printed
    assert f"Stopped. Start again with:\nrfdetr-hwd data audit {trained} --folds 2" in printed
    assert not list_checkpoints(out / "fold-2" / "checkpoints")

    # The same command resumes it.
    result = command(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    folds = [out / f"fold-{number}" for number in (1, 2)]
    for fold in folds:
        assert last_step(fold) == 6
        assert [record["step"] for record in read_metrics(fold / "metrics.jsonl") if "loss" in record] == [*range(1, 7)]
    held = [find_checkpoint(fold).record.held_out.image_ids for fold in folds]
    train = json.loads((out / "suggestions-train.json").read_text())
    assert sorted(held[0] + held[1]) == sorted(image["id"] for image in train["images"])
    assert {path.name for path in out.glob("*.*")} == {
        *("report.html", "suggestions-train.json", "suggestions-val.json", "suggestions-test.json"),
        *("fold-1.yaml", "fold-2.yaml", "fold-1.log", "fold-2.log", ".claims"),
    }
    page = (out / "report.html").read_text()
    assert "Each image was judged by a model that was not trained on it." in page
    for fold in folds:
        assert str(find_checkpoint(fold).path) in page

    # Once more, nothing is trained, and the audit is the same.
    before = contents(out), [(fold / "run.json").read_bytes() for fold in folds]
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert "0 new, 0 started, 2 finished" in again.stdout
    assert (contents(out), [(fold / "run.json").read_bytes() for fold in folds]) == before

    # Changed annotations are not judged by their image ids.
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    path = root / "train" / "_annotations.coco.json"
    path.write_text(path.read_text() + " ")
    changed = command(*arguments, f"data.root={root}")
    refused(changed, 1, f"{folds[0]} was trained on other images or annotations", "another --out")


def test_what_cannot_be_folded_is_one_message(trained: Path, cli: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def audit(*arguments: object) -> object:
        return cli("data", "audit", trained, "--out", out, *arguments)

    one = audit("--folds", 1)
    assert one.returncode == 2
    assert "'--folds': Input should be greater than or equal to 2" in one.stderr
    refused(audit("--folds", 30), 1, "--folds 30: 24 images of train, ", "cannot be divided into 30 parts")
    refused(audit("--folds", 2, f"data.root={tmp_path / 'lost'}"), 1, f"there is no directory {tmp_path / 'lost'}")
    refused(audit("--folds", 2, "--split", "val"), 2, "--split train or all, not val")
    refused(audit("--workers", 2), 2, "--workers goes with --folds")
    assert not out.exists()
    (out / "fold-2").mkdir(parents=True)
    shutil.copy(trained / "config.yaml", out / "fold-2")
    refused(audit("--folds", 2), 2, f"{out / 'fold-2'} was trained with data.val_fraction=None, which is now 0.5")
    os.remove(out / "fold-2" / "config.yaml")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": 29500}.items():
            patch.setenv(name, str(value))
        refused(audit("--folds", 2), 2, "--folds: start it without torchrun")
