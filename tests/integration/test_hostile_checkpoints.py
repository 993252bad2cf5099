"""A checkpoint or weights file made by an enemy runs nothing, on any road, and is answered with one message."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from rfdetr_hwd.checkpoint.read import manifest_sha256, sha256_of
from rfdetr_hwd.data.batch import Batch, PackedTargets
from rfdetr_hwd.training.replay import inputs_of
from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[Path]:
    """A file that code in a checkpoint would make; that it could is seen first, that it did not afterwards."""
    path = tmp_path / "code ran"
    pickle.loads(pickle.dumps(Malicious(path)))
    assert path.exists(), "the weapon does not work"
    path.unlink()
    yield path
    assert not path.exists()


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of a run that the enemy may change; the weights are links, to be replaced and not written into."""
    copy = tmp_path / "run"

    def link_weights(source: str, target: str) -> None:
        (os.link if source.endswith(".safetensors") else shutil.copy2)(source, target)

    shutil.copytree(trained, copy, symlinks=True, copy_function=link_weights)
    shutil.rmtree(copy / "checkpoints" / "step-00000006", ignore_errors=True)
    (copy / "best").unlink()
    return copy


def sign(folder: Path, change: Callable[[dict], None] = lambda _: None) -> None:
    """Write a manifest that fits what the folder holds now: the enemy can compute hashes, too."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        if (folder / name).is_file():
            manifest["files"][name] = {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
    change(manifest)
    del manifest["sha256"]
    manifest["sha256"] = manifest_sha256(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def pickled_state(folder: Path, sentinel: Path) -> None:
    torch.save({"optimizer": Malicious(sentinel), "random": []}, folder / "training.pt")


def bare_pickle(folder: Path, sentinel: Path) -> None:
    (folder / "training.pt").write_bytes(pickle.dumps(Malicious(sentinel)))


def numpy_pickle(folder: Path, sentinel: Path) -> None:
    with (folder / "training.pt").open("wb") as file:
        np.save(file, np.array([Malicious(sentinel)], dtype=object), allow_pickle=True)


def compressed_zip(folder: Path, sentinel: Path) -> None:
    """A member of zero bytes that expands a thousandfold, beside the pickle."""
    source = io.BytesIO((folder / "training.pt").read_bytes())
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(folder / "training.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.infolist()[:3]:
            new.writestr(member.filename, old.read(member))
        new.writestr("archive/data/bomb", bytes(32 << 20))


def climbing_zip(folder: Path, sentinel: Path) -> None:
    with zipfile.ZipFile(folder / "training.pt", "a") as archive:
        archive.writestr("../../escaped", b"x")


def script(folder: Path, sentinel: Path) -> None:
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(folder / "training.pt"))


def lying_header(folder: Path, sentinel: Path) -> None:
    for name in ("weights.safetensors", "ema.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes((2**60).to_bytes(8, "little") + content[8:])


def endless_shape(folder: Path, sentinel: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 16]}}).encode()
    for name in ("weights.safetensors", "ema.safetensors"):
        (folder / name).unlink()
        (folder / name).write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))


def other_weights(folder: Path, sentinel: Path) -> None:
    for name in ("weights.safetensors", "ema.safetensors"):
        (folder / name).unlink()
        safetensors.torch.save_file({"w": torch.zeros(3)}, folder / name)


def huge_json(folder: Path, sentinel: Path) -> None:
    (folder / "record.json").write_text('{"config": "' + "x" * (17 << 20) + '"}')


def deep_json(folder: Path, sentinel: Path) -> None:
    (folder / "record.json").write_text('{"config": ' + "[" * 200_000 + "]" * 200_000 + "}")


def not_a_number(folder: Path, sentinel: Path) -> None:
    content = (folder / "record.json").read_text()
    (folder / "record.json").write_text(content.replace('"class_names"', '"x": NaN, "class_names"', 1))


def user_class(folder: Path, sentinel: Path) -> None:
    module = folder.parents[2] / "enemy_layers.py"
    module.write_text(f"open({str(sentinel)!r}, 'w')\n")
    record = json.loads((folder / "record.json").read_text())
    record["config"]["downsample"]["name"] = "enemy_layers:Layer"
    (folder / "record.json").write_text(json.dumps(record))
    config = folder.parents[1] / "config.yaml"
    config.write_text(config.read_text().replace("name: hwd", "name: enemy_layers:Layer"))


def linked_file(folder: Path, sentinel: Path) -> None:
    for name in ("weights.safetensors", "ema.safetensors"):
        (folder / name).rename(folder.parents[2] / name)
        (folder / name).symlink_to(folder.parents[2] / name)


def climbing_name(folder: Path, sentinel: Path) -> None:
    (folder.parent / "secret").write_text("x")
    entry = {"sha256": sha256_of(folder.parent / "secret"), "bytes": 1}
    sign(folder, lambda manifest: manifest["files"].update({"../secret": entry}))


def odd_manifest(folder: Path, sentinel: Path) -> None:
    sign(folder, lambda manifest: manifest.update(state={"step": "x"}))


def negative_epoch(folder: Path, sentinel: Path) -> None:
    sign(folder, lambda manifest: manifest["state"].update(epoch=-1, micro_batch=-3))


EVERYWHERE = {
    lying_header: ["cannot be read"],
    endless_shape: ["cannot be read"],
    other_weights: [""],
    huge_json: ["record.json", "more than the limit"],
    deep_json: ["record.json", "not valid JSON"],
    not_a_number: ["record.json", "NaN"],
    user_class: ["RFDETR_HWD_TRUST"],
    linked_file: ["regular file"],
    climbing_name: ["../secret"],
    odd_manifest: ["its state"],
    negative_epoch: ["manifest.json: state.epoch = -1: input should be greater than or equal to 0"],
}
RESUME_ONLY = {
    pickled_state: ["cannot be loaded safely"],
    bare_pickle: ["cannot be loaded safely"],
    numpy_pickle: ["cannot be loaded safely"],
    compressed_zip: ["cannot be loaded safely", "compressed"],
    climbing_zip: ["cannot be loaded safely", "points outside the archive"],
    script: ["cannot be loaded safely"],
}


def attack(run: Path, weapon: Callable[[Path, Path], None], sentinel: Path) -> Path:
    folder = run / "checkpoints" / "step-00000012"
    weapon(folder, sentinel)
    if weapon not in (climbing_name, odd_manifest, negative_epoch):
        sign(folder)
    return folder


@pytest.mark.parametrize("weapon", [*EVERYWHERE, *RESUME_ONLY], ids=lambda weapon: weapon.__name__)
def test_resume_runs_nothing(
    cli: Run, run: Path, sentinel: Path, weapon: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    attack(run, weapon, sentinel)
    monkeypatch.syspath_prepend(run.parent)
    result = cli("train", "--resume", run, "--accept", "train.epochs", "train.epochs=3")
    refused(result, 1, *{**EVERYWHERE, **RESUME_ONLY}[weapon])


@pytest.mark.slow
@pytest.mark.parametrize("weapon", RESUME_ONLY, ids=lambda weapon: weapon.__name__)
def test_replay_runs_nothing(cli: Run, run: Path, sentinel: Path, weapon: Callable[[Path, Path], None]) -> None:
    folder = run / "checkpoints" / "step-00000012"
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "non_finite": []}))
    target = {"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}
    batch = Batch(torch.zeros(1, 3, 64, 64), PackedTargets.pack([target]), (1,), torch.zeros(1, 2, 2))
    safetensors.torch.save_file(inputs_of([batch], rank=0), folder / "inputs.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["inputs.safetensors"] = {}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    attack(run, weapon, sentinel)
    refused(cli("checkpoint", "replay", folder), 1, *RESUME_ONLY[weapon])


@pytest.mark.parametrize(
    "verb",
    [
        *("evaluate", "pretrain_weights", "show"),
        *(pytest.param(verb, marks=pytest.mark.slow) for verb in ("predict", "export", "verify", "replay")),
    ],
)
@pytest.mark.parametrize("weapon", EVERYWHERE, ids=lambda weapon: weapon.__name__)
def test_no_other_road_runs_anything(
    cli: Run,
    run: Path,
    config_file: Path,
    shapes_root: Path,
    sentinel: Path,
    weapon: Callable[[Path, Path], None],
    verb: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = attack(run, weapon, sentinel)
    monkeypatch.syspath_prepend(run.parent)
    arguments = {
        "evaluate": ["evaluate", "--weights", folder, "--out", run / "out"],
        "predict": ["predict", shapes_root / "test", "--weights", folder, "--out", run / "out"],
        "export": ["export", "--weights", folder, "--out", run / "out.pth"],
        "pretrain_weights": [
            *("train", "--config", config_file, f"output.dir={run / 'new'}", f"model.pretrain_weights={folder}"),
        ],
        **{name: ["checkpoint", name, folder] for name in ("show", "verify", "replay")},
    }[verb]
    result = cli(*arguments)
    if verb in ("show", "verify") and weapon in (lying_header, endless_shape, other_weights, user_class):
        assert result.returncode == 0  # the tensors are not read, the class is not imported
    else:
        refused(result, 1, *EVERYWHERE[weapon])
    assert not (run / "new").exists()


def reduce_in_state(path: Path, sentinel: Path) -> None:
    torch.save({"model": {"w": torch.zeros(1)}, "args": Malicious(sentinel)}, path)


def legacy(path: Path, sentinel: Path) -> None:
    torch.save({"model": Malicious(sentinel)}, path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path, sentinel: Path) -> None:
    path.write_bytes(pickle.dumps({"model": Malicious(sentinel)}))


def bomb(path: Path, sentinel: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Malicious(sentinel)))
        archive.writestr("archive/data/0", bytes(32 << 20))


def climber(path: Path, sentinel: Path) -> None:
    torch.save({"model": {}}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../escaped", b"x")


def scripted(path: Path, sentinel: Path) -> None:
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(path))


def whole_module(path: Path, sentinel: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), path)


def nested(path: Path, sentinel: Path) -> None:
    torch.save({"model": {"w": [torch.zeros(1)]}, "args": {}}, path)


@pytest.mark.parametrize(
    "weapon",
    [reduce_in_state, legacy, plain_pickle, bomb, climber, scripted, whole_module, nested],
    ids=lambda weapon: weapon.__name__,
)
def test_a_pth_runs_nothing(
    cli: Run, config_file: Path, tmp_path: Path, sentinel: Path, weapon: Callable[[Path, Path], None]
) -> None:
    path = tmp_path / "weights.pth"
    weapon(path, sentinel)
    new = tmp_path / "new"
    result = cli("train", "--config", config_file, f"output.dir={new}", f"model.pretrain_weights={path}")
    refused(result, 1, "weights.pth")
    assert not new.exists()
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize(
    "text",
    ["!!python/object/apply:pathlib.Path.touch [{sentinel}]", "a: &a [1]\nb: *a", "x: " + "[" * 5000],
    ids=["tag", "alias", "deep"],
)
def test_a_configuration_runs_nothing(cli: Run, run: Path, sentinel: Path, text: str) -> None:
    (run / "config.yaml").write_text(text.replace("{sentinel}", str(sentinel)))
    refused(cli("train", "--resume", run), 2, "is not valid YAML")
    refused(cli("train", "--config", run / "config.yaml"), 2, "is not valid YAML")
