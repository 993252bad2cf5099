"""Checkpoints: directories that are complete or absent.

A checkpoint is written next to its final path. Every file is flushed to the disk, and the manifest with the sha256 of
every file comes last. One rename then moves the checkpoint to its final path. Weights are safetensors, the training
state is loaded with
`weights_only=True`, the rest is JSON: reading a checkpoint runs no code.

    step-00000190/
        manifest.json           format, sha256 and size of every file, position in the run with the metrics, own sha256
        record.json             configuration and classes, to rebuild the model
        weights.safetensors     raw weights
        ema.safetensors         EMA weights, if enabled
        training.pt             the optimizer's moments by parameter, and random generators

An epoch is saved before it is evaluated. When the metrics are known, the manifest alone is replaced, by one rename.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from rfdetr_hwd.checkpoint.schema import FORMAT, READABLE, FileEntry, Manifest, Record, in_todays_words
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.validation import first_problem
from rfdetr_hwd.errors import UserError, explaining
from rfdetr_hwd.files import UntrustedFileError, load_tensors, read_json_object

MANIFEST, RECORD, TRAINING = "manifest.json", "record.json", "training.pt"
WEIGHTS = {"raw": "weights.safetensors", "ema": "ema.safetensors"}
HUB_WEIGHTS = "model.safetensors"  # raw weights, by the name that a model hub expects
INPUTS = "inputs.safetensors"
_NAME = re.compile(r"step-\d{8,}")
_Model = TypeVar("_Model", bound=BaseModel)


class CheckpointError(UserError):
    """A checkpoint is missing or corrupt, or cannot be used."""


class NewerFormatError(CheckpointError):
    """A checkpoint of a newer version. It is intact, so an older checkpoint is no substitute."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint directory. Its files are read on demand.

    Attributes:
        path: The directory.
        record: Configuration and classes, to rebuild the model, and the identity of its data.
        state: Position in the run, with the metrics of its weights if they were evaluated.
        files: sha256 and size of each verified file. No other file is read.
    """

    path: Path
    record: Record
    state: TrainState
    files: dict[str, FileEntry]

    @property
    def run(self) -> Path:
        """Directory of its run. A checkpoint that was copied alone has none; no file of a run is then there."""
        return self.path.parent.parent

    @property
    def step(self) -> int:
        """Completed steps when it was written."""
        return self.state.step

    @property
    def weights_kinds(self) -> list[str]:
        """Return the weights it holds: `ema` and `raw`, or one of them."""
        return [kind for kind in ("ema", "raw") if self._weights_file(kind) in self.files]

    @property
    def better_weights(self) -> str:
        """The weights with the higher AP, if it was measured."""
        metrics = self.state.current_metrics
        measured = {kind: ap for kind in self.weights_kinds if (ap := metrics.get(f"{kind}/AP")) is not None}
        return max(measured or self.weights_kinds, key=lambda kind: measured.get(kind, 0.0))

    def weights(self, kind: str) -> dict[str, Tensor]:
        """Return a state dict: `ema` or `raw`.

        Raises:
            CheckpointError: It holds no such weights.
        """
        if kind not in self.weights_kinds:
            raise CheckpointError(f"{self.path} holds no {kind} weights; it holds {self.weights_kinds}")
        return self._tensors(self._weights_file(kind))

    def inputs(self) -> dict[str, Tensor]:
        """Return the inputs that `save_checkpoint` was given.

        Raises:
            CheckpointError: It has none.
        """
        if INPUTS not in self.files:
            raise CheckpointError(f"{self.path} holds no inputs: it is not a bundle of a failed step")
        return self._tensors(INPUTS)

    def weights_sha256(self, kind: str) -> str:
        """Return the sha256 of a weights file."""
        return self.files[self._weights_file(kind)].sha256

    def weights_bytes(self, kind: str) -> int:
        """Return the size of a weights file."""
        return self.files[self._weights_file(kind)].bytes

    def training(self) -> dict[str, Any]:
        """Return the training state that `save_checkpoint` was given.

        Raises:
            CheckpointError: There is no training state, or it holds objects other than tensors and plain values.
        """
        path = self.path / TRAINING
        if TRAINING not in self.files:
            raise CheckpointError(f"{self.path} holds weights only: a run cannot be resumed from it")
        with explaining((FileNotFoundError, UntrustedFileError), f"{path} cannot be loaded safely", CheckpointError):
            content = load_tensors(path)
        if not isinstance(content, dict):
            raise CheckpointError(f"{path} holds no training state")
        return content

    def _weights_file(self, kind: str) -> str:
        return HUB_WEIGHTS if kind == "raw" and HUB_WEIGHTS in self.files else WEIGHTS[kind]

    def _tensors(self, name: str) -> dict[str, Tensor]:
        kinds = (OSError, SafetensorError, ValueError, RuntimeError, KeyError)
        with explaining(kinds, f"{self.path}: {name} cannot be read", CheckpointError):
            tensors = safetensors.torch.load_file(self.path / name)
        return tensors


def open_checkpoint(folder: Path) -> Checkpoint:
    """Verify a checkpoint directory against its manifest and open it.

    Raises:
        CheckpointError: It is not a checkpoint, or a file is missing or corrupt. The message names the file.
    """
    manifest = read_manifest(folder)
    # Compare every file with its hash before any of them is read.
    for name, entry in manifest.files.items():
        problem = _damage(folder, name, entry)
        if problem:
            raise CheckpointError(f"{folder} is corrupt: {name} {problem}")
    record = _validate(Record, _read_json(folder, RECORD), folder, RECORD)
    return Checkpoint(folder, record, manifest.state, manifest.files)


def verify_files(folder: Path) -> dict[str, str | None]:
    """Return the problem of each file of a checkpoint; `None`: the file is intact.

    Raises:
        CheckpointError: The manifest itself is missing or corrupt.
    """
    return {name: _damage(folder, name, entry) for name, entry in read_manifest(folder).files.items()}


def _damage(folder: Path, name: str, entry: FileEntry) -> str | None:
    """Return the problem of a file that a manifest names; `None`: the file is intact."""
    path = folder / name
    if Path(name).name != name or path.is_symlink() or not path.is_file():
        return "is missing (or not a regular file of this directory)"
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"checksum mismatch: {size} bytes"
        return None if sha256_of(path) == entry.sha256 else "checksum mismatch"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a checkpoint: format, state, and size and sha256 of each file.

    Raises:
        NewerFormatError: A newer version wrote it.
        CheckpointError: It is missing, corrupt, or of an older format.
    """
    # Check that it is what was written, in a format of this version.
    content = _read_json(folder, MANIFEST)
    if content.pop("sha256", None) != manifest_sha256(content):
        raise CheckpointError(f"{folder} is corrupt: {MANIFEST}: checksum mismatch")
    written = content.get("format")
    if type(written) is not int or written not in READABLE:
        kind = NewerFormatError if type(written) is int and written > FORMAT else CheckpointError
        raise kind(f"{folder} has the checkpoint format {written!r}; this version of rfdetr-hwd reads {READABLE}")
    # Give the state of an earlier format today's names. Defaults are for a new run alone.
    if isinstance(state := content.get("state"), dict):
        content["state"] = state = in_todays_words(written, state)
        if missing := {field.name for field in fields(TrainState)} - state.keys():
            raise CheckpointError(f"{folder} is corrupt: {MANIFEST}: its state lacks {sorted(missing)}")
    # Validate it.
    manifest = _validate(Manifest, content, folder, MANIFEST)
    if RECORD not in manifest.files:
        raise CheckpointError(f"{folder} is not a checkpoint of rfdetr-hwd: its manifest lists no {RECORD}")
    return manifest


def list_checkpoints(parent: Path) -> list[Path]:
    """Return the checkpoint directories of a run, newest first."""
    return sorted((path for path in parent.glob("step-*") if _NAME.fullmatch(path.name)), reverse=True)


def checkpoints_of(path: Path) -> list[Path]:
    """Return the checkpoints at a path: all of a run, newest first, or the checkpoint itself.

    Raises:
        CheckpointError: It is a run without checkpoints.
    """
    parent = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    found = list_checkpoints(parent)
    if parent != path and not found:
        raise CheckpointError(f"{path} has no checkpoint yet")
    return found or [path.resolve()]


def newest_checkpoint(parent: Path) -> tuple[Checkpoint, list[str]]:
    """Open the newest intact checkpoint of a run.

    Returns:
        The checkpoint, and a message for each newer one that is corrupt.

    Raises:
        CheckpointError: No checkpoint is intact, or the newest was written by a newer version.
    """
    problems: list[str] = []
    for path in list_checkpoints(parent):
        # An older one is a substitute for a corrupt one, not for one of a newer version.
        try:
            return open_checkpoint(path), problems
        except NewerFormatError:
            raise
        except CheckpointError as error:
            problems.append(str(error))
    raise CheckpointError("; ".join([f"no checkpoint can be loaded from {parent}", *problems]))


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a directory: give a run directory or a checkpoint directory of rfdetr-hwd"
        )
    # Tell what is no checkpoint from what is a corrupt one.
    if not os.path.lexists(path):
        raise CheckpointError(f"{folder} is not a checkpoint of rfdetr-hwd: it has no {name}")
    with explaining((OSError, UntrustedFileError), f"{folder} is corrupt: {name} cannot be read", CheckpointError):
        if path.is_symlink():
            raise UntrustedFileError("it is a link")
        content = read_json_object(path)
    return content


def _validate(model: type[_Model], content: dict[str, Any], folder: Path, name: str) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise CheckpointError(f"{folder} is corrupt: {name}: {first_problem(error)}") from None


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """Return the hash of a manifest's content, without its own hash."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the hash of a file.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
