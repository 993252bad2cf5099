"""Manifest and record are strict, and earlier formats are read in today's words."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rfdetr_hwd.checkpoint.read import CheckpointError, newest_checkpoint, open_checkpoint, sha256_of
from rfdetr_hwd.checkpoint.schema import Manifest, in_todays_words
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.checkpoint.write import save_checkpoint
from tests.unit.checkpoint.records import RECORD, sign_manifest, write_as_format

WEIGHTS = {"raw": {"w": torch.arange(4.0)}}
STATE = TrainState(
    step=3,
    step_in_epoch=2,
    best_ap=0.5,
    best_step=3,
    best_weights="raw",
    metrics={"raw/AP": 0.5, "raw/AP_large": None},
    metrics_step=3,
)


def save(parent: Path, state: TrainState = STATE) -> Path:
    return save_checkpoint(parent / f"step-{state.step:08d}", state, RECORD, WEIGHTS, {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"step": "1"}, "state.step = '1': input should be a valid integer"),
        ({"step": True}, "state.step = True: input should be a valid integer"),
        ({"step": 1.0}, "state.step = 1.0: input should be a valid integer"),
        ({"step": -1}, "state.step = -1: input should be greater than or equal to 0"),
        ({"metrics": []}, "state.metrics = []: input should be"),
        ({"metrics": {"ema/AP": "1"}}, "state.metrics.ema/AP = '1': input should be a valid number"),
        ({"best_ap": 10**400}, "state.best_ap = 1000"),
        ({"best_ap": "1"}, "state.best_ap = '1': input should be a valid number"),
        ({"is_evaluation_due": 0}, "state.is_evaluation_due = 0: input should be a valid boolean"),
        ({"extra": 1}, "state.extra: unknown key"),
        ({"a\nb": 1}, r"state.a\nb: unknown key"),
    ],
)
def test_a_state_of_other_types_is_refused_in_one_line(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    folder = save(tmp_path)
    sign_manifest(folder, lambda manifest: manifest["state"].update(change))
    with pytest.raises(CheckpointError, match=re.escape(reason)) as error:
        open_checkpoint(folder)
    assert str(error.value).startswith(f"{folder} is corrupt: manifest.json: {reason}")
    assert "\n" not in str(error.value)


def test_a_state_without_a_field_is_refused(tmp_path: Path) -> None:
    """Or a run would resume at epoch 0."""
    folder = save(tmp_path)
    sign_manifest(folder, lambda manifest: manifest["state"].pop("epoch"))
    with pytest.raises(CheckpointError, match=r"manifest.json: its state lacks \['epoch'\]"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"files": []}, "files = []: input should be"),
        ({"files": {"record.json": {"sha256": "0"}}}, "files.record.json.bytes is missing"),
        ({"files": {"record.json": 3}}, "files.record.json = 3: input should be"),
        ({"files": {}}, "its manifest lists no record.json"),
        ({"state": None}, "state = None: input should be"),
        ({"more": 1}, "more: unknown key"),
        ({"format": 6.0}, "has the checkpoint format 6.0; this version of rfdetr-hwd reads (4, 5, 6)"),
        ({"format": "7"}, "has the checkpoint format '7'"),
        ({"format": [6]}, "has the checkpoint format [6]"),
    ],
)
def test_a_manifest_of_other_types_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    folder = save(tmp_path)
    sign_manifest(folder, lambda manifest: manifest.update(change))
    with pytest.raises(CheckpointError, match=re.escape(reason)):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"class_names": ["a", 1]}, "class_names.1 = 1: input should be a valid string"),
        ({"config": []}, "config = []: input should be"),
        ({"training_data": {"images": 1, "boxes": 1}}, "training_data.sha256 is missing"),
        ({"held_out": {"fraction": 0.5, "seed": 0, "sha256": "", "image_ids": [2**63]}}, "held_out.image_ids.0 = 9223"),
        ({"held_out": {"fraction": 0.5, "seed": 0, "sha256": "", "image_ids": 5}}, "held_out.image_ids = 5: input"),
        ({"held_out": []}, "held_out = []: input should be"),
        ({"note": "x"}, "note: unknown key"),
    ],
)
def test_a_record_of_other_types_is_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    folder = save(tmp_path)
    content = json.dumps({**RECORD.model_dump(), **change})
    (folder / "record.json").write_text(content)
    entry = {"sha256": sha256_of(folder / "record.json"), "bytes": len(content)}
    sign_manifest(folder, lambda manifest: manifest["files"].update({"record.json": entry}))
    with pytest.raises(CheckpointError, match=re.escape(f"is corrupt: record.json: {reason}")):
        open_checkpoint(folder)


def test_a_path_that_is_not_utf8_is_recorded(tmp_path: Path) -> None:
    record = RECORD.model_copy(update={"config": {"data": {"root": "d\udcff"}}})
    assert open_checkpoint(save_checkpoint(tmp_path / "step-00000003", STATE, record, WEIGHTS)).record == record


@pytest.mark.parametrize("number", [4, 5])
def test_earlier_formats_have_other_names(tmp_path: Path, number: int) -> None:
    folder = save(tmp_path)
    write_as_format(folder, number)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["state"]["figures"] == {"plain/AP": 0.5, "plain/AP_large": -1.0 if number == 4 else None}
    checkpoint = open_checkpoint(folder)
    assert checkpoint.state == STATE
    assert checkpoint.better_weights == "raw"
    assert torch.equal(checkpoint.weights("raw")["w"], WEIGHTS["raw"]["w"])
    sign_manifest(folder, lambda manifest: manifest["state"].update(figure=1))
    with pytest.raises(CheckpointError, match="state.figure: unknown key"):
        open_checkpoint(folder)


def test_a_name_of_an_earlier_format_is_unknown_today(tmp_path: Path) -> None:
    folder = save(tmp_path)
    write_as_format(folder, 5)
    sign_manifest(folder, lambda manifest: manifest.update(format=6))
    with pytest.raises(CheckpointError, match="its state lacks .*'metrics'"):
        newest_checkpoint(tmp_path)


def test_minus_one_is_undefined_in_format_4_alone() -> None:
    figures = {"plain/AP": 0.25, "ema/AP_large": -1.0}
    state = {"figures": figures, "best_ap": -1.0}
    assert in_todays_words(4, state) == {"metrics": {"raw/AP": 0.25, "ema/AP_large": None}, "best_ap": None}
    assert in_todays_words(5, state) == {"metrics": {"raw/AP": 0.25, "ema/AP_large": -1.0}, "best_ap": -1.0}
    assert in_todays_words(6, state) == state
    assert state == {"figures": {"plain/AP": 0.25, "ema/AP_large": -1.0}, "best_ap": -1.0}


counts = st.integers(0, 2**40)
metric = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        TrainState,
        **dict.fromkeys(["step", "epoch", "step_in_epoch", "micro_batch", "best_step", "metrics_step"], counts),
        is_evaluation_due=st.booleans(),
        best_ap=metric,
        best_weights=st.sampled_from(["", "ema", "raw"]),
        metrics=st.dictionaries(st.text(st.characters(codec="utf-8")), metric, max_size=3),
    )
)
def test_a_manifest_is_read_as_it_is_written(state: TrainState) -> None:
    manifest = Manifest(format=6, state=state, files={})
    assert Manifest.model_validate(json.loads(json.dumps(manifest.model_dump()))) == manifest
