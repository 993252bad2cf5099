"""A run on disk: its configuration, its metrics, its checkpoints, and the best of them.

RUN/
    config.yaml         resolved configuration
    run.json            one entry per start: environment, git, derived numbers, dataset, end; see run_log.py
    metrics.jsonl       one record per logged step and evaluation
    speed.jsonl         time, images per second and memory at each logged step
    trackers.json       ids of the run in experiment trackers, if there are any
    quarantine.jsonl    unreadable images, if any, and the reasons
    checkpoints/        step-00000190/ ...; see rfdetr_hwd.checkpoint.read
    best                link to the checkpoint with the highest AP
    non-finite/         step-00000123/ ...: bundles of steps whose loss or gradient was non-finite
    .lock               held by the process that trains
"""

import itertools
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from torch import Tensor

from rfdetr_hwd.checkpoint import best_link
from rfdetr_hwd.checkpoint.lock import locked
from rfdetr_hwd.checkpoint.read import Checkpoint, CheckpointError, list_checkpoints, newest_checkpoint
from rfdetr_hwd.checkpoint.record import refuse_untrusted_class
from rfdetr_hwd.checkpoint.schema import Record
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.checkpoint.write import record_in_manifest, remove_partial, save_checkpoint
from rfdetr_hwd.config.load import parse_recorded
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.errors import ConfigError, explaining, writing
from rfdetr_hwd.files import flush, read_yaml, removed_afterwards, replace_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The directory of a run.

    Attributes:
        path: The directory.
    """

    path: Path

    @classmethod
    def create(cls, config: Config) -> Self:
        """Create the directory of a new run and write its configuration, completely or not at all.

        Raises:
            ConfigError: The directory holds a run or checkpoints already, or cannot be written.
        """
        folder = cls(Path(config.output.dir))
        if folder.has_checkpoints():
            raise ConfigError(
                f"output.dir: {folder.path} holds checkpoints of a run, but no config.yaml. Restore config.yaml, or "
                "choose another output.dir"
            )
        # Write the configuration beside its place, then put it there without replacing another.
        partial = folder.path / f".config-{os.getpid()}.partial"
        with removed_afterwards(partial), writing("output.dir", folder.path):
            folder.checkpoints.mkdir(parents=True, exist_ok=True)
            replace_text(partial, config.to_yaml())
            try:
                os.link(partial, folder.config_file)  # unlike a rename, it does not replace
            except FileExistsError:
                folder.refuse_new()
            flush(folder.path)
        return folder

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the directory of an existing run.

        Raises:
            ConfigError: It is not the directory of a run.
        """
        folder = cls(path)
        if not folder.config_file.is_file():
            raise ConfigError(f"--resume: {path} is not a run directory: it has no config.yaml")
        return folder

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def bundles(self) -> Path:
        """Directory of the bundles of failed steps."""
        return self.path / "non-finite"

    @property
    def metrics_file(self) -> Path:
        """File of the metrics."""
        return self.path / "metrics.jsonl"

    @property
    def speed_file(self) -> Path:
        """File of speed and memory."""
        return self.path / "speed.jsonl"

    def quarantine_file(self, rank: int) -> Path:
        """Return the file that lists unreadable images, of this rank."""
        return self.path / ("quarantine.jsonl" if rank == 0 else f"quarantine-rank{rank}.jsonl")

    @property
    def best(self) -> Path:
        """Link to the best checkpoint."""
        return self.path / "best"

    @property
    def log_file(self) -> Path:
        """Log of the starts and ends of the run; see `rfdetr_hwd.checkpoint.run_log`."""
        return self.path / "run.json"

    @property
    def config_file(self) -> Path:
        """File of the configuration."""
        return self.path / "config.yaml"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training in this directory, and remove the remains of interrupted saves.

        Raises:
            ConfigError: Another process is training in it.
        """
        with locked(self.path):
            for folder in (self.checkpoints, self.bundles):
                remove_partial(folder)
            yield

    @property
    def is_run(self) -> bool:
        """Whether the directory holds a run."""
        return self.config_file.is_file()

    def refuse_new(self) -> NoReturn:
        """Refuse a new run where another one exists.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            f"output.dir: {self.path} holds a run already. Resume it with `rfdetr-hwd train --resume {self.path}` "
            "(or --auto-resume), or choose another output.dir"
        ) from None

    def config_values(self) -> dict[str, Any]:
        """Return the content of config.yaml.

        Raises:
            ConfigError: It cannot be read.
        """
        return read_yaml(self.config_file)

    def config(self, overrides: Sequence[str] = ()) -> Config:
        """Return the configuration of the run, with overrides. Whether these are allowed is not checked here.

        Raises:
            ConfigError: It is not valid.
            CheckpointError: It names a class that is not trusted.
        """
        config = parse_recorded(self.config_values(), overrides, str(self.config_file))
        refuse_untrusted_class(config, str(self.path))
        if Path(config.output.dir).resolve() != self.path.resolve():  # the directory was moved
            output = config.output.model_copy(update={"dir": str(self.path)})
            config = config.model_copy(update={"output": output})
        return config

    def write_config(self, config: Config) -> None:
        """Replace the configuration of the run.

        Raises:
            ConfigError: It cannot be written.
        """
        with writing("output.dir", self.config_file):
            replace_text(self.config_file, config.to_yaml())

    def has_checkpoints(self) -> bool:
        """Return whether there is a checkpoint to resume from. A run that was killed early has none."""
        return bool(list_checkpoints(self.checkpoints))

    def newest(self) -> Checkpoint:
        """Open the newest intact checkpoint. Corrupt newer ones are set aside, with a warning.

        Raises:
            CheckpointError: There are checkpoints, but none is intact.
        """
        # Open the newest intact one.
        checkpoint, problems = newest_checkpoint(self.checkpoints)
        for problem in problems:
            logger.warning("fell back to an earlier checkpoint: %s", problem)
        # Set the newer ones aside, which a save of the same step would replace.
        for path in list_checkpoints(self.checkpoints):
            if path.name > checkpoint.path.name:
                names = (f"corrupt-{path.name}" + (f"-{number}" if number else "") for number in itertools.count())
                place = next(place for name in names if not (place := path.with_name(name)).exists())
                with explaining(OSError, f"cannot set {path} aside", CheckpointError):
                    path.rename(place)
        return checkpoint

    def save(
        self,
        state: TrainState,
        record: Record,
        weights: Mapping[str, Mapping[str, Tensor]],
        training: Mapping[str, Any],
        keep_last: int,
    ) -> Path:
        """Write a checkpoint of the state, point `best` to the best one, and remove the oldest.

        Args:
            state: Position in the run.
            record: Configuration and class names.
            weights: State dicts by kind.
            training: State that a resumed run needs in addition to the weights.
            keep_last: Checkpoints to keep, in addition to the best one.

        Raises:
            CheckpointError: It cannot be written.
        """
        folder = save_checkpoint(self._checkpoint(state.step), state, record, weights, training)
        self.point_best(state)
        self._remove_old(state, keep_last)
        return folder

    def record_metrics(self, state: TrainState, keep_last: int) -> None:
        """Record the metrics of a state in its checkpoint, point `best` to the best one, and remove the oldest.

        Raises:
            CheckpointError: It cannot be written.
        """
        record_in_manifest(self._checkpoint(state.step), state)
        self.point_best(state)
        self._remove_old(state, keep_last)

    def save_bundle(
        self,
        state: TrainState,
        record: Record,
        weights: Mapping[str, Mapping[str, Tensor]],
        training: Mapping[str, Any],
        inputs: Mapping[str, Tensor],
    ) -> Path:
        """Write the bundle that reproduces the step after a state: a checkpoint with the step's inputs.

        Raises:
            CheckpointError: It cannot be written.
        """
        return save_checkpoint(self.bundle(state), state, record, weights, training, inputs)

    def bundle(self, state: TrainState) -> Path:
        """Return the path of the bundle of the step after a state."""
        return self.bundles / f"step-{state.step + 1:08d}"

    def _remove_old(self, state: TrainState, keep_last: int) -> None:
        """Remove old checkpoints. Each is renamed first, so that a partly removed one is never taken for an intact one.

        The target of `best` stays, even if the state no longer names it.
        """
        found = list_checkpoints(self.checkpoints)
        linked = {path for path in found if path.resolve() == self.best.resolve()}
        for old in set(found) - linked - {self._checkpoint(state.best_step), *found[:keep_last]}:
            doomed = old.rename(old.with_name(f".partial-{old.name}-old"))
            shutil.rmtree(doomed, ignore_errors=True)

    def point_best(self, state: TrainState) -> None:
        """Point `best` to the checkpoint that the state names, if it is there.

        Raises:
            CheckpointError: The link cannot be made.
        """
        target = self._checkpoint(state.best_step)
        if target.is_dir():
            best_link.point(self.best, target)

    def retire_best(self, state: TrainState) -> None:
        """Keep the former best checkpoint under another name, when a state names none.

        Raises:
            CheckpointError: It cannot be renamed.
        """
        if not state.best_step:
            best_link.retire(self.best, self.checkpoints, self._checkpoint(state.step))

    def _checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step:08d}"
