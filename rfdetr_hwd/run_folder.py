"""A run on disk: what it was configured with, what it measured, its checkpoints, and which of them is best.

RUN/
    config.yaml         resolved configuration
    environment.json    versions and devices
    metrics.jsonl       one record a logged update and an evaluation
    quarantine.jsonl    images that cannot be read, if there are any, and why
    checkpoints/        step-00000190/ ...; see rfdetr_hwd.engine.checkpoint
    best                link to the checkpoint with the highest AP
    .lock               held by the process that trains
"""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from rfdetr_hwd.config import Config, ConfigError, override_keys, parse_config, read_yaml
from rfdetr_hwd.engine.checkpoint import (
    Checkpoint,
    CheckpointError,
    TrainState,
    list_checkpoints,
    newest_checkpoint,
    open_checkpoint,
    remove_partial,
    save_checkpoint,
)

TRUST_VARIABLE = "RFDETR_HWD_TRUST"
"""Environment variable: comma-separated downsampler classes (package.module:Class) that a checkpoint may import."""

RESUMABLE = (
    *(
        "data.root",
        "data.workers",
        "data.worker_timeout",
        "evaluation.",
        "output.save_every",
        "output.keep_last",
        "output.trackers",
    ),
    *("train.epochs", "train.early_stop", "train.log_every", "train.micro_batch"),
)
"""What may change when a run is resumed: nothing that its updates are made of."""

MEASURABLE = ("data.", "evaluation.", "amp")
"""What may differ between training and a later measurement."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(cls, config: Config, environment: Mapping[str, Any]) -> Self:
        """Make the folder of a new run and write what it is configured with.

        Raises:
            ConfigError: The folder holds a run already, or cannot be written.
        """
        folder = cls(Path(config.output.dir))
        try:
            folder.checkpoints.mkdir(parents=True, exist_ok=True)
            with folder._config_file.open("x", encoding="utf-8") as file:
                file.write(config.to_yaml())
            (folder.path / "environment.json").write_text(json.dumps(environment, indent=2), encoding="utf-8")
        except FileExistsError:
            raise ConfigError(
                f"output.dir: {folder.path} holds a run already. Continue it with `rfdetr-hwd train --resume "
                f"{folder.path}`, or choose another output.dir"
            ) from None
        except OSError as error:
            raise ConfigError(f"output.dir: cannot write to {folder.path}: {error.strerror}") from None
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder of an existing run.

        Raises:
            ConfigError: It is not the folder of a run.
        """
        folder = cls(path)
        if not folder._config_file.is_file():
            raise ConfigError(f"--resume: {path} is not a run folder: it has no config.yaml")
        return folder

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """File of the metrics."""
        return self.path / "metrics.jsonl"

    def quarantine_file(self, rank: int) -> Path:
        """Return the file that lists unreadable images, of this rank."""
        return self.path / ("quarantine.jsonl" if rank == 0 else f"quarantine-rank{rank}.jsonl")

    @property
    def best(self) -> Path:
        """Link to the best checkpoint."""
        return self.path / "best"

    @property
    def _config_file(self) -> Path:
        return self.path / "config.yaml"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in this folder, and remove what interrupted saves left.

        Raises:
            ConfigError: Another process is training in it.
        """
        with (self.path / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(f"{self.path} is in use: another process is training in it") from None
            remove_partial(self.checkpoints)
            yield

    def config(self, overrides: Sequence[str]) -> Config:
        """Return the configuration of the run, with overrides that a resumed run may have.

        Raises:
            ConfigError: An override would change the updates of the run.
        """
        _check_overrides(overrides, RESUMABLE, "a resumed run")
        recorded = parse_config(read_yaml(self._config_file), origin=str(self._config_file))
        config = parse_config(read_yaml(self._config_file), overrides, origin=str(self._config_file))
        if recorded.train.schedule == "cosine" and config.train.epochs != recorded.train.epochs:
            raise ConfigError(
                "train.epochs cannot be changed for a resumed run with train.schedule=cosine: it bends it"
            )
        _refuse_untrusted_class(config, str(self.path))
        return config

    def write_config(self, config: Config) -> None:
        """Replace the configuration of the run."""
        partial = self._config_file.with_name(".config.yaml.partial")
        partial.write_text(config.to_yaml(), encoding="utf-8")
        partial.replace(self._config_file)

    def has_checkpoints(self) -> bool:
        """Return whether there is a checkpoint to resume from; a run that was killed early has none."""
        return bool(list_checkpoints(self.checkpoints))

    def newest(self, is_main: bool = True) -> Checkpoint:
        """Open the newest whole checkpoint; set damaged newer ones aside, and say so.

        Args:
            is_main: Whether this process may say and rename.

        Raises:
            CheckpointError: There are checkpoints, and none is whole.
        """
        checkpoint, problems = newest_checkpoint(self.checkpoints)
        for problem in problems if is_main else []:
            logger.warning("fell back to an earlier checkpoint: %s", problem)
        for path in list_checkpoints(self.checkpoints):
            if is_main and path.name > checkpoint.path.name:
                path.rename(path.with_name(f"damaged-{path.name}"))
        return checkpoint

    def save(
        self,
        state: TrainState,
        record: Mapping[str, Any],
        weights: Mapping[str, Mapping[str, Tensor]],
        training: Mapping[str, Any],
        keep_last: int,
    ) -> Path:
        """Write a checkpoint of the state, point `best` to the best one, and remove the oldest.

        Args:
            state: Position in the run.
            record: Configuration and class names.
            weights: State dicts by kind.
            training: What a resumed run needs beside the weights.
            keep_last: Checkpoints kept beside the best one.

        Raises:
            CheckpointError: It cannot be written.
        """
        folder = self._checkpoint(state.step)
        figures = state.figures if state.figures_step == state.step else {}
        better = max(weights, key=lambda kind: figures.get(f"{kind}/AP", -1.0))
        measured = {"step": state.step, "epoch": state.epoch, "better_weights": better, "figures": figures}
        save_checkpoint(folder, state.step, {**record, **measured}, weights, training)
        self.point_best(state)
        keep = {folder, self._checkpoint(state.best_step), *list_checkpoints(self.checkpoints)[:keep_last]}
        for old in set(list_checkpoints(self.checkpoints)) - keep:
            shutil.rmtree(old)
        return folder

    def point_best(self, state: TrainState) -> None:
        """Point `best` to the checkpoint that the state names, if it is there.

        Raises:
            CheckpointError: The link cannot be made.
        """
        target = self._checkpoint(state.best_step)
        if not target.is_dir():
            return
        link = self.path / ".best.partial"
        try:
            if self.best.is_dir() and not self.best.is_symlink():  # a copy that followed the link
                self.best.rename(self.path / f"copied-best-{os.getpid()}")
            link.unlink(missing_ok=True)
            link.symlink_to(target.relative_to(self.path), target_is_directory=True)
            os.replace(link, self.best)
        except OSError as error:
            raise CheckpointError(f"cannot link {self.best} to {target}: {error.strerror}") from None

    def _checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}"


def find_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint folder, or the best (else newest) checkpoint of a run folder.

    Raises:
        CheckpointError: There is none, or the one that was named is damaged.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path} is not a folder: give a run folder or a checkpoint folder of rfdetr-hwd")
    run = RunFolder(path)
    if run.best.exists():
        return open_checkpoint(run.best.resolve())  # the link may move while the checkpoint is read
    if run.checkpoints.is_dir():
        checkpoint, problems = newest_checkpoint(run.checkpoints)
        for problem in problems:
            logger.warning("fell back to an earlier checkpoint: %s", problem)
        return checkpoint
    return open_checkpoint(path.resolve())


def read_record(checkpoint: Checkpoint, overrides: Sequence[str] = ()) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration and the class names that a checkpoint records.

    Args:
        checkpoint: The checkpoint.
        overrides: `key=value` assignments to data, evaluation and precision.

    Raises:
        CheckpointError: The record holds neither, or names a class that is not trusted.
        ConfigError: An override would change the model or the training.
    """
    config, class_names = checkpoint.record.get("config"), checkpoint.record.get("class_names")
    if not isinstance(config, dict) or not isinstance(class_names, list):
        raise CheckpointError(f"{checkpoint.path} records no model: its record has no config or no class names")
    _check_overrides(overrides, MEASURABLE, "a trained model")
    recorded = parse_config(config, overrides, origin=f"{checkpoint.path}/record.json")
    _refuse_untrusted_class(recorded, str(checkpoint.path))
    return recorded, tuple(map(str, class_names))


def _check_overrides(overrides: Sequence[str], allowed: Sequence[str], what: str) -> None:
    for key in override_keys(overrides):
        if not any(key == name or (name.endswith(".") and key.startswith(name)) for name in allowed):
            choices = ", ".join(f"{name}*" if name.endswith(".") else name for name in allowed)
            raise ConfigError(f"{key} cannot be changed for {what}; what can is {choices}")


def _refuse_untrusted_class(config: Config, where: str) -> None:
    """Refuse to import a class because a checkpoint says so: importing runs code.

    Raises:
        CheckpointError: The downsampler is a class by path, and the environment does not name it as trusted.
    """
    name = config.downsample.name
    if ":" in name and name not in os.environ.get(TRUST_VARIABLE, "").split(","):
        raise CheckpointError(
            f"{where} was trained with the downsampler class {name}, and loading it imports that module. If you trust "
            f"it, set {TRUST_VARIABLE}={name}"
        )
