"""`checkpoint show | verify | replay`, damage that is found, disks that are full, and saves that were cut off."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.checkpoint.read import list_checkpoints, open_checkpoint, read_manifest
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.training import run as train_command
from rfdetr_hwd.training.trackers import read_metrics
from tests.integration.conftest import Run
from tests.integration.runs import differing, last_step
from tests.integration.test_bad_input import refused
from tests.unit.checkpoint.records import sign_manifest, write_as_format


def test_show_prints_what_a_checkpoint_holds(cli: Run, trained: Path) -> None:
    result = cli("checkpoint", "show", trained / "best")
    assert result.returncode == 0
    step = open_checkpoint((trained / "best").resolve()).step
    for part in (f"step {step}, epoch {step // 6}", "circle, square, triangle, star", "ema/AP", "ema.safetensors"):
        assert part in result.stdout
    result = cli("checkpoint", "show", trained)
    assert "step 6, epoch 1" in result.stdout
    assert "step 12, epoch 2" in result.stdout


def test_verify_names_the_damaged_file(cli: Run, halfway: Path, tmp_path: Path) -> None:
    assert cli("checkpoint", "verify", halfway).returncode == 0
    path = halfway / "checkpoints" / "step-00000006" / "training.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    refused(cli("checkpoint", "verify", halfway), 1, str(path), "checksum mismatch")
    refused(cli("checkpoint", "verify", path.parent), 1, str(path))
    refused(cli("checkpoint", "show", path.parent), 1, "training.pt")
    refused(cli("checkpoint", "show", halfway / "checkpoints"), 1, "step-00000006 is corrupt: training.pt")
    for verb in ("show", "verify", "replay"):
        refused(cli("checkpoint", verb, tmp_path), 1, f"error: {tmp_path} is not a checkpoint of rfdetr-hwd")
    refused(cli("train", "--resume", halfway), 1, "no checkpoint can be loaded", "training.pt")


@pytest.mark.parametrize("limit", [pytest.param(1 << 20, marks=pytest.mark.slow), 150 << 20])
def test_a_full_disk_leaves_the_last_checkpoint(cli: Run, halfway: Path, limit: int) -> None:
    """A limit on the size of a file stands for a full disk: the write fails in the middle of a file."""
    program = (
        "import resource, signal, sys\nfrom rfdetr_hwd.cli import app\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        f"sys.argv[1:] = ['train', '--resume', {str(halfway)!r}, 'output.save_every_steps=1']\napp.main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env={**os.environ}
    )
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert "error: cannot write the checkpoint" in result.stderr
    assert [path.name for path in (halfway / "checkpoints").iterdir()] == ["step-00000006"]
    assert open_checkpoint(list_checkpoints(halfway / "checkpoints")[0]).step == 6


def test_strays_of_a_cut_off_save_are_removed(halfway: Path) -> None:
    strays = [halfway / "checkpoints" / f".partial-{name}" for name in ("step-00000009-1", "manifest-1")]
    strays[0].mkdir()
    (strays[0] / "weights.safetensors").write_bytes(b"half")
    strays[1].write_text("{")
    with RunFolder(halfway).lock():
        assert [path for path in strays if path.exists()] == []
    assert last_step(halfway) == 6


def test_an_evaluation_that_fails_costs_nothing(halfway: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("rfdetr_hwd.evaluation.coco.CocoMetric.compute", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_command.run(None, halfway, [])
    assert open_checkpoint(halfway / "checkpoints" / "step-00000012").state.is_evaluation_due
    with monkeypatch.context() as patched:
        patched.setattr(
            "rfdetr_hwd.training.trainer.TrainStep.__call__", lambda *_: 1 / 0
        )  # there is nothing left to train
        train_command.run(None, halfway, [])
    assert differing(halfway, trained, 12) == []
    assert (halfway / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()


def test_a_loss_that_is_not_finite_leaves_a_bundle(cli: Run, halfway: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that overflow: the run stops before the step, and the bundle makes the step again."""
    checkpoint = open_checkpoint(halfway / "checkpoints" / "step-00000006")
    load = torch.nn.Module.load_state_dict

    def poisoned(self: torch.nn.Module, state: dict, *rest: object, **options: object) -> object:
        key = "bbox_embed.layers.2.weight"
        return load(self, {**state, key: state[key] * 3e38} if key in state else state, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.Module, "load_state_dict", poisoned)
        result = cli("train", "--resume", halfway)
    refused(result, 1, "step 7 is non-finite", "checkpoint replay", "--accept train.lr")
    assert [path.name for path in list_checkpoints(halfway / "checkpoints")] == ["step-00000006"]
    assert open_checkpoint(checkpoint.path).files == checkpoint.files
    folder = halfway / "non-finite" / "step-00000007"
    bundle = open_checkpoint(folder)
    (found,) = bundle.record.non_finite or ()
    assert len(found.image_ids) == 4 or len(found.image_ids) == 2
    for image_id in found.image_ids:
        assert str(image_id) in result.stderr
    assert "nan" in found.terms.values() or "inf" in found.terms.values()
    result = cli("checkpoint", "replay", folder)
    assert result.returncode == 0, result.stderr
    assert "reproduced: non-finite" in result.stdout
    for name, value in found.terms.items():
        (row,) = [line for line in result.stdout.splitlines() if f" {name} " in line]
        assert row.count(value) >= 2, row  # to the last digit
    refused(cli("checkpoint", "replay", checkpoint.path), 1, "not a bundle")


def break_the_loss(patched: pytest.MonkeyPatch) -> None:
    """Let the loss be NaN, while its terms are finite."""
    forward = DetectionLoss.forward

    def broken(self: DetectionLoss, *arguments: object, **options: object) -> object:
        loss, terms = forward(self, *arguments, **options)
        return loss * float("nan"), terms

    patched.setattr(DetectionLoss, "forward", broken)


@pytest.mark.slow
def test_a_finite_update_is_not_reported_as_reproduced(
    cli: Run, halfway: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        break_the_loss(patched)
        refused(cli("train", "--resume", halfway), 1, "non-finite")
    refused(cli("checkpoint", "replay", halfway / "non-finite" / "step-00000007"), 1, "the failure was not reproduced")


@pytest.mark.slow
def test_a_replay_has_the_class_weights_of_the_run(
    cli: Run, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All loss terms are finite here, and the replayed ones are equal to the last digit."""
    with monkeypatch.context() as patched:
        break_the_loss(patched)
        options = [f"output.dir={tmp_path / 'run'}", "train.class_weights=balanced"]
        refused(cli("train", "--config", config_file, *options), 1, "non-finite")
    folder = tmp_path / "run" / "non-finite" / "step-00000001"
    record = open_checkpoint(folder).record
    assert record.class_weights is not None
    assert len({*record.class_weights, 1.0}) > 1
    (found,) = record.non_finite or ()
    result = cli("checkpoint", "replay", folder)
    for name, value in found.terms.items():
        (row,) = [line for line in result.stdout.splitlines() if f" {name} " in line]
        assert row.count(value) >= 2, row


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (["train.lr=5e-4"], 2, ["train.lr (was 0.001, is 0.0005) cannot be changed", "--accept train.lr"]),
        (["--accept", "model.levels", "model.levels=[P4]"], 2, ["--accept model.levels", "cannot be accepted"]),
        (["--accept", "classes"], 2, ["--accept classes: unknown key"]),
        (["--accept", "train.lrr"], 2, ["--accept train.lrr: unknown key; the nearest known key is train.lr."]),
        (
            ["train.last_batch=keep"],
            2,
            ['train.last_batch (was "fill", is "keep") cannot be changed', "--accept train.l"],
        ),
        (["--accept", "train.lr", "train.batch_size=2"], 2, ["train.batch_size (was 4, is 2) cannot"]),
    ],
)
def test_a_change_must_be_accepted_by_name(
    cli: Run, trained: Path, arguments: list[str], status: int, parts: list[str]
) -> None:
    refused(cli("train", "--resume", trained, *arguments), status, *parts)


def test_accepted_changes_are_made(cli: Run, halfway: Path, shapes_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(shapes_root, root)
    path = root / "train" / "_annotations.coco.json"
    path.write_text(path.read_text() + " ")
    refused(cli("train", "--resume", halfway, f"data.root={root}"), 1, "the training annotations", "--accept annot")
    changes = {"lr": "5e-4", "weight_decay": "0", "encoder_layer_decay": "1", "component_decay": "1", "ema": "false"}
    accepted = [part for name in changes for part in ("--accept", f"train.{name}")]
    wanted = [f"train.{name}={value}" for name, value in changes.items()]
    command = ("train", "--resume", halfway, "--accept", "annotations", f"data.root={root}", "evaluation.every=9")
    result = cli(*command, *accepted, *wanted)
    assert result.returncode == 0, result.stderr
    checkpoint = open_checkpoint(halfway / "checkpoints" / "step-00000012")
    assert checkpoint.record.config["train"]["lr"] == 5e-4
    starts = json.loads((halfway / "run.json").read_text())["starts"]
    assert [(start["step"], start["config"]["train"]["lr"]) for start in starts] == [(0, 1e-3), (6, 5e-4)]
    rates = [max(group["lr"] for group in start["derived"]["learning_rate_groups"]) for start in starts]
    assert rates == [1e-3, 5e-4]
    assert checkpoint.weights_kinds == ["raw"]
    longer = ("--accept", "train.epochs", "train.epochs=3")
    result = cli("train", "--resume", halfway, "--accept", "train.ema", "train.ema=true", *longer)
    assert result.returncode == 0, result.stderr
    assert open_checkpoint(halfway / "checkpoints" / "step-00000018").weights_kinds == ["ema", "raw"]
    for split in ("train", "valid"):
        path = path.parent.parent / split / path.name
        annotations = json.loads(path.read_text())
        annotations["categories"][-1]["name"] = "comet"
        path.write_text(json.dumps(annotations))
    refused(
        cli("train", "--resume", halfway, "--accept", "annotations"), 1, "the classes differ from those of", "'comet'"
    )


def test_what_is_accepted_before_the_first_checkpoint_stays_accepted(
    cli: Run, halfway: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(halfway / "checkpoints")
    (halfway / "best").unlink()
    monkeypatch.setattr(train_command, "_fit", lambda *_: None)
    assert cli("train", "--resume", halfway, "--accept", "train.lr", "train.lr=5e-4").returncode == 0
    assert RunFolder.open(halfway).config([]).train.lr == 5e-4


def test_what_was_accepted_once_need_not_be_said_again(cli: Run, halfway: Path) -> None:
    """Not even if no step was made; and the checkpoint, not a file that anyone can edit, says what the run is."""
    result = cli("train", "--resume", halfway, "train.max_hours=1e-9", "--accept", "train.lr", "train.lr=5e-4")
    assert result.returncode == 124
    assert result.stdout.splitlines()[-1] == f"rfdetr-hwd train --resume {halfway}"
    assert cli("train", "--resume", halfway).returncode == 124
    path = halfway / "config.yaml"
    path.write_text(path.read_text().replace("lr: 0.0005", "lr: 0.002"))
    for more in ([], ["data.root=nowhere"]):  # it is checked before the data is read
        refused(cli("train", "--resume", halfway, *more), 2, "train.lr (was 0.0005, is 0.002) cannot be changed")


def test_a_folder_with_anothers_checkpoints_is_refused(cli: Run, config_file: Path, halfway: Path) -> None:
    """They would be taken for this run's, and newer than its own."""
    (halfway / "config.yaml").unlink()
    result = cli("train", "--config", config_file, f"output.dir={halfway}", "--auto-resume")
    refused(result, 2, "holds checkpoints of a run, but no config.yaml")
    assert last_step(halfway) == 6


def evaluations(run: Path) -> list[dict[str, float]]:
    """Return the records of evaluations up to step 6."""
    records = read_metrics(run / "metrics.jsonl")
    return [record for record in records if record["step"] <= 6 and "ema/AP" in record]


def test_other_validation_images_are_measured_anew(cli: Run, halfway: Path, shapes_root: Path, tmp_path: Path) -> None:
    """What was best was best on the images that are gone."""
    root = tmp_path / "data"
    shutil.copytree(shapes_root, root)
    path = root / "valid" / "_annotations.coco.json"
    annotations = json.loads(path.read_text())
    path.write_text(json.dumps({**annotations, "annotations": annotations["annotations"][:3]}))
    (before,) = evaluations(halfway)
    accepted = ("--accept", "annotations", f"data.root={root}", "--accept", "train.epochs", "train.epochs=1")
    result = cli("train", "--resume", halfway, *accepted)
    assert result.returncode == 0, result.stderr
    (after,) = evaluations(halfway)
    assert after != before
    refused(cli("train", "--resume", halfway, f"data.root={shapes_root}"), 1, "the validation annotations differ")
    state = open_checkpoint(halfway / "best").state
    assert (state.step, state.best_step, state.best_ap) == (6, 6, max(after["ema/AP"], after["raw/AP"]))


def test_a_machine_that_does_not_see_the_run_says_so(
    cli: Run, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 has found one. Without the question the ranks would wait for each other in different places."""
    monkeypatch.setattr(distributed, "broadcast_object", lambda _: True)
    refused(cli("train", "--config", config_file, f"output.dir={tmp_path / 'run'}"), 2, "all machines share")


def test_a_run_from_before_there_was_a_key_keeps_its_behaviour(
    cli: Run, config_file: Path, halfway: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is continued: by its folder, or by the file it was started with."""
    checkpoint = halfway / "checkpoints" / "step-00000006"
    for path in (halfway / "config.yaml", checkpoint / "record.json"):
        text = re.sub(r" *\"?last_batch\"?: \"?fill\"?,?\n", "", path.read_text())
        assert "last_batch" not in text
        path.unlink()  # a link to what other tests read
        path.write_text(text)
    content = (checkpoint / "record.json").read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    sign_manifest(checkpoint, lambda manifest: manifest["files"].update({"record.json": entry}))
    refused(cli("train", "--resume", halfway, "train.last_batch=fill"), 2, 'train.last_batch (was "keep", is "fill")')
    monkeypatch.setattr(train_command, "_fit", lambda *_: None)
    auto = ("--config", config_file, f"output.dir={halfway}", "--auto-resume")
    for arguments in (("--resume", halfway), auto):
        result = cli("train", *arguments)
        assert result.returncode == 0, result.stderr
        assert "at step 6" in result.stdout
        assert RunFolder.open(halfway).config([]).train.last_batch == "keep"
    result = cli("train", "--resume", halfway, "--accept", "train.last_batch", "train.last_batch=fill")
    assert result.returncode == 0, result.stderr
    assert RunFolder.open(halfway).config([]).train.last_batch == "fill"


def test_a_run_of_format_5_resumes_as_if_this_version_had_started_it(cli: Run, trained: Path, halfway: Path) -> None:
    write_as_format(halfway / "checkpoints" / "step-00000006", 5)
    text = (halfway / "checkpoints" / "step-00000006" / "manifest.json").read_text()
    assert '"format": 5' in text
    assert all(word in text for word in ('"figures"', '"update_in_epoch"', '"plain/AP"'))
    assert cli("checkpoint", "verify", halfway).returncode == 0
    result = cli("train", "--resume", halfway)
    assert result.returncode == 0, result.stderr
    assert differing(halfway, trained, 12) == []
    assert read_manifest(halfway / "checkpoints" / "step-00000012").format == 6


def test_auto_resume_starts_and_continues(cli: Run, config_file: Path, halfway: Path) -> None:
    refused(cli("train", "--config", config_file, f"output.dir={halfway}"), 2, "holds a run already", "--auto-resume")
    other = cli("train", "--config", config_file, f"output.dir={halfway}", "train.lr=0.5", "--auto-resume")
    refused(other, 2, "train.lr (was 0.001, is 0.5) cannot be changed")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train_command, "_fit", lambda *_: None)
        result = cli("train", "--config", config_file, f"output.dir={halfway}", "--auto-resume")
        assert result.returncode == 0, result.stderr
        assert "at step 6, epoch 1" in result.stdout
        patched.setenv("TORCHELASTIC_RUN_ID", "1")
        patched.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        assert cli("train", "--config", config_file, f"output.dir={halfway}").returncode == 0
