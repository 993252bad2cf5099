"""Write checkpoints, completely or not at all. `rfdetr_hwd.checkpoint.read` describes their files."""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from rfdetr_hwd.checkpoint.read import (
    HUB_WEIGHTS,
    INPUTS,
    MANIFEST,
    RECORD,
    TRAINING,
    WEIGHTS,
    CheckpointError,
    manifest_sha256,
    read_manifest,
    sha256_of,
)
from rfdetr_hwd.checkpoint.schema import FORMAT, FileEntry, Manifest, Record
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.errors import writing
from rfdetr_hwd.files import flush, removed_afterwards
from rfdetr_hwd.runtime.memory import is_out_of_memory

_PARTIAL = ".partial-"
_REPLACED = re.compile(r"\.partial-(step-\d+)-\d+-replaced")


def save_checkpoint(
    folder: Path,
    state: TrainState,
    record: Record,
    weights: Mapping[str, Mapping[str, Tensor]],
    training: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint directory, completely or not at all.

    Args:
        folder: Its final path. The parent is created.
        state: Position in the run.
        record: Values to rebuild the model.
        weights: State dicts by kind, `raw` and `ema`.
        training: Tensors and plain values that a resumed run needs; `None` for weights alone.
        inputs: Tensors of a failed step.

    Returns:
        The directory.

    Raises:
        CheckpointError: It cannot be written. A former checkpoint is unchanged.
    """
    partial = folder.parent / f"{_PARTIAL}{folder.name}-{os.getpid()}"
    replaced = partial.with_name(f"{partial.name}-replaced")
    try:
        # Write and flush every file next to the final path, the manifest last.
        partial.mkdir(parents=True)
        _write_files(partial, record, weights, training)
        if inputs is not None:
            safetensors.torch.save_file(dict(inputs), partial / INPUTS)
        files = _flush_files(partial)
        _write_manifest(partial / MANIFEST, state, files)
        flush(partial)
        # Move it there by one rename. A former checkpoint goes aside, and comes back if that fails.
        if folder.exists():  # written before, perhaps corrupt since
            folder.rename(replaced)
        try:
            partial.rename(folder)
        except OSError:
            if replaced.exists():
                replaced.rename(folder)
            raise
        flush(folder.parent)
    except (OSError, SafetensorError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        if is_out_of_memory(error):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        free = shutil.disk_usage(_existing(folder)).free >> 20
        raise CheckpointError(
            f"cannot write the checkpoint {folder}: {reason}. {free} MiB are free on the disk. Check file "
            "limits and quotas too. Existing checkpoints are untouched. A resumed run starts from them"
        ) from None
    finally:
        # Clean up.
        for path in (partial, replaced):
            shutil.rmtree(path, ignore_errors=True)
    return folder


def write_hub_files(folder: Path, state: TrainState, record: Record, weights: Mapping[str, Tensor]) -> None:
    """Write the files of a checkpoint that holds one state dict alone, by the names that a model hub expects.

    Args:
        folder: An existing directory. Its other files are not listed in the manifest.
        state: Position in the run, with the metrics of these weights as those of `raw`.
        record: Values to rebuild the model.
        weights: The state dict.

    Raises:
        OSError: A file cannot be written.
    """
    _write_files(folder, record, {}, None)
    safetensors.torch.save_file(
        {key: value.detach().cpu().contiguous() for key, value in weights.items()},
        folder / HUB_WEIGHTS,
        {"format": "pt"},
    )
    _write_manifest(folder / MANIFEST, state, _flush_files(folder, (RECORD, HUB_WEIGHTS)))


def _write_files(
    folder: Path,
    record: Record,
    weights: Mapping[str, Mapping[str, Tensor]],
    training: Mapping[str, Any] | None,
) -> None:
    (folder / RECORD).write_text(json.dumps(record.model_dump(), indent=2), encoding="utf-8")
    for kind, state in weights.items():
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        safetensors.torch.save_file(tensors, folder / WEIGHTS[kind])
    if training is not None:
        torch.save(dict(training), folder / TRAINING)


def record_in_manifest(folder: Path, state: TrainState) -> None:
    """Replace the state in a checkpoint by one of the same step with metrics.

    Raises:
        CheckpointError: It cannot be written. The former manifest is unchanged.
    """
    manifest = read_manifest(folder)
    partial = folder.parent / f"{_PARTIAL}manifest-{os.getpid()}"
    with removed_afterwards(partial), writing("output.dir", folder / MANIFEST, CheckpointError):
        _write_manifest(partial, state, manifest.files)
        os.replace(partial, folder / MANIFEST)
        flush(folder)


def _flush_files(folder: Path, names: Sequence[str] | None = None) -> dict[str, FileEntry]:
    """Flush files to the disk, by default all of a directory, and return the hash and size of each."""
    paths = sorted(folder.iterdir() if names is None else (folder / name for name in names))
    for path in paths:
        flush(path)
    return {path.name: FileEntry(sha256=sha256_of(path), bytes=path.stat().st_size) for path in paths}


def _write_manifest(path: Path, state: TrainState, files: Mapping[str, FileEntry]) -> None:
    manifest = Manifest(format=FORMAT, state=state, files=dict(files)).model_dump()
    signed = {**manifest, "sha256": manifest_sha256(manifest)}
    path.write_text(json.dumps(signed, indent=2), encoding="utf-8")
    flush(path)


def remove_partial(parent: Path) -> None:
    """Remove the remains of interrupted saves. A checkpoint that was about to be replaced is put back."""
    for path in parent.glob(f"{_PARTIAL}*"):
        # Killed between its two renames, a save leaves the former checkpoint under this name.
        replaced = _REPLACED.fullmatch(path.name)
        if replaced and not (parent / replaced[1]).exists():
            path.rename(parent / replaced[1])
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _existing(path: Path) -> Path:
    """Return the nearest existing directory."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())
