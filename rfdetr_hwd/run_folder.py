"""A run on disk: what it was configured with, what it measured, its checkpoints, and which of them is best.

RUN/
    config.yaml         resolved configuration
    environment.json    versions and devices
    metrics.jsonl       one record a logged update and an evaluation
    checkpoints/        step-00000190/ ...; see rfdetr_hwd.engine.checkpoint
    best                link to the checkpoint with the highest AP
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rfdetr_hwd.config import Config, ConfigError, parse_config, read_yaml
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
from rfdetr_hwd.engine.trainer import Learner


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
        if folder._config_file.exists():
            raise ConfigError(
                f"output.dir: {folder.path} holds a run already. Continue it with `rfdetr-hwd train --resume "
                f"{folder.path}`, or choose another output.dir"
            )
        try:
            folder.checkpoints.mkdir(parents=True, exist_ok=True)
            (folder.path / "environment.json").write_text(json.dumps(environment, indent=2), encoding="utf-8")
            folder._config_file.write_text(config.to_yaml(), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"output.dir: cannot write to {folder.path}: {error.strerror}") from None
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the folder of an existing run and remove what interrupted saves left.

        Raises:
            ConfigError: It is not the folder of a run.
        """
        folder = cls(path)
        if not folder._config_file.is_file():
            raise ConfigError(f"--resume: {path} is not a run folder: it has no config.yaml")
        remove_partial(folder.checkpoints)
        return folder

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """File of the metrics."""
        return self.path / "metrics.jsonl"

    @property
    def best(self) -> Path:
        """Link to the best checkpoint."""
        return self.path / "best"

    @property
    def _config_file(self) -> Path:
        return self.path / "config.yaml"

    def config(self, overrides: list[str]) -> Config:
        """Return the configuration of the run, with overrides."""
        return parse_config(read_yaml(self._config_file), overrides, origin=str(self._config_file))

    def has_checkpoints(self) -> bool:
        """Return whether there is a checkpoint to resume from; a run that was killed early has none."""
        return bool(list_checkpoints(self.checkpoints))

    def save(self, learner: Learner, state: TrainState, record: Mapping[str, Any], keep_last: int) -> Path:
        """Write a checkpoint of the state, point `best` to the best one, and remove the oldest.

        Args:
            learner: Network, average, optimiser.
            state: Position in the run.
            record: Configuration and class names.
            keep_last: Checkpoints kept beside the best one.
        """
        folder = self._checkpoint(state.step)
        weights = {kind: network.state_dict() for kind, network in learner.networks().items()}
        better = max(weights, key=lambda kind: state.figures.get(f"{kind}/AP", -1.0))
        full_record = {**record, "step": state.step, "epoch": state.epoch, "better_weights": better}
        save_checkpoint(
            folder, state.step, {**full_record, "figures": state.figures}, weights, learner.training_state(state)
        )
        self.point_best(state)
        keep = {self._checkpoint(state.best_step), *list_checkpoints(self.checkpoints)[:keep_last]}
        for old in set(list_checkpoints(self.checkpoints)) - keep:
            shutil.rmtree(old)
        return folder

    def point_best(self, state: TrainState) -> None:
        """Point `best` to the checkpoint that the state names, if it is there."""
        target = self._checkpoint(state.best_step)
        if not target.is_dir():
            return
        link = self.path / ".best.partial"
        link.unlink(missing_ok=True)
        link.symlink_to(target.relative_to(self.path), target_is_directory=True)
        os.replace(link, self.best)

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
        return open_checkpoint(run.best)
    if run.checkpoints.is_dir():
        return newest_checkpoint(run.checkpoints)[0]
    return open_checkpoint(path)


def read_record(checkpoint: Checkpoint) -> tuple[Config, tuple[str, ...]]:
    """Return the configuration and the class names that a checkpoint records.

    Raises:
        CheckpointError: The record holds neither.
    """
    config, class_names = checkpoint.record.get("config"), checkpoint.record.get("class_names")
    if not isinstance(config, dict) or not isinstance(class_names, list):
        raise CheckpointError(f"{checkpoint.path} records no model: its record has no config or no class names")
    return parse_config(config, origin=f"{checkpoint.path}/record.json"), tuple(map(str, class_names))
