"""Checkpoints: folders that are whole or absent.

A checkpoint is written beside its place on the same filesystem, every file flushed to the disk, a manifest with the
sha256 of every file last; then one rename puts it there. Weights are safetensors, the training state is loaded with
`weights_only=True`, the record is JSON: reading a checkpoint runs no code.

    step-00000190/
        manifest.json           format, step, sha256 and size of every file, and its own sha256
        record.json             what rebuilds the model, and the figures, for people and programs
        weights.safetensors     plain weights
        ema.safetensors         averaged weights, if there is an average
        training.pt             optimiser, random generators, position in the run
"""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from rfdetr_hwd.errors import UserError

FORMAT = 1
_MANIFEST, _RECORD, _TRAINING = "manifest.json", "record.json", "training.pt"
_WEIGHTS = {"plain": "weights.safetensors", "ema": "ema.safetensors"}
_PARTIAL = ".partial-"


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or something else."""


@dataclass
class TrainState:
    """What the loop must remember, beside weights, optimiser and random generators.

    Attributes:
        step: Updates made.
        epoch: Epochs completed.
        update_in_epoch: Updates made of the epoch under way.
        best_ap: Highest AP so far; -1 before the first evaluation.
        best_step: The step that reached it.
        best_weights: The weights that reached it, `ema` or `plain`.
        evaluations_since_best: Evaluations since.
        figures: Figures of the last evaluation, by name.
        figures_step: The step it was made at.
    """

    step: int = 0
    epoch: int = 0
    update_in_epoch: int = 0
    best_ap: float = -1.0
    best_step: int = 0
    best_weights: str = ""
    evaluations_since_best: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    figures_step: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint folder, read where it is asked.

    Attributes:
        path: The folder.
        record: What rebuilds the model.
        step: Updates made when it was written.
        sha256: Hash of each file, as it was verified.
    """

    path: Path
    record: dict[str, Any]
    step: int
    sha256: dict[str, str]

    @property
    def weights_kinds(self) -> list[str]:
        """Return the weights it holds: `ema` and `plain`, or the one that was best."""
        return [kind for kind in ("ema", "plain") if self._weights_file(kind).exists()]

    def weights(self, kind: str) -> dict[str, Tensor]:
        """Return a state dict: `ema` or `plain`.

        Raises:
            CheckpointError: It holds no such weights.
        """
        try:
            return safetensors.torch.load_file(self._weights_file(kind))
        except FileNotFoundError:
            raise CheckpointError(f"{self.path} holds no {kind} weights; it holds {self.weights_kinds}") from None
        except SafetensorError as error:
            raise CheckpointError(f"{self.path}: the {kind} weights cannot be read: {error}") from None

    def weights_sha256(self, kind: str) -> str:
        """Return the sha256 of a weights file."""
        return self.sha256[self._weights_file(kind).name]

    def training(self) -> dict[str, Any]:
        """Return the training state that `save_checkpoint` was given.

        Raises:
            CheckpointError: The checkpoint has none, or it holds objects other than tensors and plain values.
        """
        path = self.path / _TRAINING
        if not path.exists():
            raise CheckpointError(f"{self.path} holds weights only; a run cannot be resumed from it")
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # the unpickler raises many kinds, all of them about the file
            raise CheckpointError(f"{path} cannot be loaded safely: {str(error).splitlines()[0]}") from None
        return content

    def _weights_file(self, kind: str) -> Path:
        return self.path / _WEIGHTS[kind]


def save_checkpoint(
    folder: Path,
    step: int,
    record: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, Tensor]],
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint folder, whole or not at all.

    Args:
        folder: Where it will be; its parent is made.
        step: Updates made.
        record: What rebuilds the model; JSON values.
        weights: State dicts by kind, `plain` and `ema`.
        training: Tensors and plain values that a resumed run needs; `None` for weights alone.

    Returns:
        The folder.

    Raises:
        CheckpointError: It cannot be written; what was there before still is.
    """
    partial = folder.parent / f"{_PARTIAL}{folder.name}-{os.getpid()}"
    replaced = partial.with_name(f"{partial.name}-replaced")
    try:
        partial.mkdir(parents=True)
        _write_files(partial, record, weights, training)
        _write_manifest(partial, step)
        if folder.exists():  # written before, perhaps damaged since
            folder.rename(replaced)
        try:
            partial.rename(folder)
        except OSError:
            if replaced.exists():
                replaced.rename(folder)
            raise
        _flush(folder.parent)
    except (OSError, SafetensorError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CheckpointError(f"cannot write the checkpoint {folder}: {reason}") from None
    finally:
        for path in (partial, replaced):
            shutil.rmtree(path, ignore_errors=True)
    return folder


def _write_files(
    folder: Path,
    record: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, Tensor]],
    training: Mapping[str, Any] | None,
) -> None:
    (folder / _RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
    for kind, state in weights.items():
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        safetensors.torch.save_file(tensors, folder / _WEIGHTS[kind])
    if training is not None:
        torch.save(dict(training), folder / _TRAINING)


def _write_manifest(folder: Path, step: int) -> None:
    """Flush every file to the disk and write the manifest last."""
    files = {path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size} for path in sorted(folder.iterdir())}
    for name in files:
        _flush(folder / name)
    manifest: dict[str, Any] = {"format": FORMAT, "step": step, "files": files}
    manifest["sha256"] = _manifest_sha256(manifest)
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    _flush(folder / _MANIFEST)
    _flush(folder)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Verify a checkpoint folder against its manifest and open it.

    Raises:
        CheckpointError: It is not a checkpoint, or a file is missing or not what was written; the message names it.
    """
    manifest = _read_json(folder / _MANIFEST, folder)
    if manifest.pop("sha256", None) != _manifest_sha256(manifest):
        raise CheckpointError(f"{folder} is damaged: {_MANIFEST} is not what was written (sha256 differs)")
    if manifest.get("format") != FORMAT:
        written = manifest.get("format")
        raise CheckpointError(f"{folder} has the checkpoint format {written!r}; this version reads {FORMAT}")
    for name, expected in manifest["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise CheckpointError(f"{folder} is damaged: {name} is missing")
        if path.stat().st_size != expected["bytes"] or _sha256(path) != expected["sha256"]:
            raise CheckpointError(f"{folder} is damaged: {name} is not what was written (sha256 differs)")
    hashes = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    return Checkpoint(folder, _read_json(folder / _RECORD, folder), int(manifest["step"]), hashes)


def list_checkpoints(parent: Path) -> list[Path]:
    """Return the checkpoint folders of a run, newest first."""
    return sorted(parent.glob("step-[0-9]*"), reverse=True)


def remove_partial(parent: Path) -> None:
    """Remove what interrupted saves left behind."""
    for path in parent.glob(f"{_PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)


def newest_checkpoint(parent: Path) -> tuple[Checkpoint, list[str]]:
    """Open the newest whole checkpoint of a run.

    Returns:
        The checkpoint, and a message for each newer one that is damaged.

    Raises:
        CheckpointError: There is none that is whole.
    """
    problems: list[str] = []
    for path in list_checkpoints(parent):
        try:
            return open_checkpoint(path), problems
        except CheckpointError as error:
            problems.append(str(error))
    raise CheckpointError("; ".join([f"no checkpoint can be loaded from {parent}", *problems]))


def random_state() -> dict[str, Any]:
    """Return the state of every random generator of this process, as tensors and plain values."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))


def _read_json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is not a checkpoint of rfdetr-hwd: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is damaged: {path.name} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{folder} is damaged: {path.name} holds no object")
    return content


def _manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """Return the hash of a manifest's content, its own hash left out."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
