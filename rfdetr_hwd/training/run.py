"""Train a new run, or resume one: find the run, build it, fit, and report how it ended."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from rfdetr_hwd.checkpoint.read import list_checkpoints
from rfdetr_hwd.checkpoint.record import TRUST_VARIABLE
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.config.load import load_config, override, override_keys
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.console import say
from rfdetr_hwd.errors import ConfigError, Interrupted, UserError
from rfdetr_hwd.layers.registry import check_downsample
from rfdetr_hwd.model.build import downsample_options
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.determinism import make_deterministic
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.runtime.launch import launcher, num_restarts
from rfdetr_hwd.runtime.memory import MemoryShortageError, is_out_of_memory
from rfdetr_hwd.runtime.process_group import process_group
from rfdetr_hwd.training.ending import describe_ending, recorded_end
from rfdetr_hwd.training.first_weights import check_first_weights
from rfdetr_hwd.training.last_evaluation import LastEvaluation, last_evaluation
from rfdetr_hwd.training.non_finite import NonFiniteError
from rfdetr_hwd.training.resume import settle_config
from rfdetr_hwd.training.setup import build, claim, create, find_newest, restore
from rfdetr_hwd.training.tracking.build import check_trackers
from rfdetr_hwd.training.trainer import Trainer


class TrainingError(UserError):
    """A run that cannot continue."""


def run(
    config: Config | Path | None,
    resume: Path | None,
    overrides: list[str],
    accepted: Sequence[str] = (),
    auto_resume: bool = False,
) -> LastEvaluation | None:
    """Train a new run from a configuration, or resume one.

    Args:
        config: Configuration of a new run, or its YAML file.
        resume: Directory of the run to resume.
        overrides: `key=value` assignments.
        accepted: Keys whose change is accepted when a run is resumed, and `annotations`.
        auto_resume: Resume the run in `output.dir` if there is one. A restart by the launcher implies it.

    Returns:
        The last evaluation, on rank 0. `None`: none was made, or `output.report` is off.

    Raises:
        UserError: The input is wrong, or the run cannot continue.
        Interrupted: The run was asked to stop. Its advice says how to resume.
    """
    if (config is None) == (resume is None):
        raise ConfigError("give --config FILE for a new run, or --resume RUN_DIR to resume one")
    if resume is not None and auto_resume:
        raise ConfigError("--auto-resume goes with --config. --resume always resumes the run")
    if resume is not None and "output.dir" in override_keys(overrides):
        raise ConfigError("output.dir cannot be changed for a resumed run: move its directory instead")
    # Find the run.
    settings, folder = _find_run(config, resume, overrides, auto_resume)
    if accepted and folder is None:
        raise ConfigError("--accept goes with a run to resume: there is none yet")
    check_trackers(settings.output.trackers)
    check_downsample(settings.downsample.name, **downsample_options(settings.downsample))
    if folder is None:
        check_first_weights(settings.model)
    if settings.train.deterministic:
        make_deterministic()
    stop, trainer = StopRequest(settings.train.max_hours), None
    with stop.listening(), _joined(stop) as device, ExitStack() as stack, _explained(settings):
        try:
            with stop.raise_immediately():
                trainer = _prepare(settings, folder, device, stop, stack, accepted)
            _fit(trainer)
            return last_evaluation(trainer) if trainer.config.output.report else None
        except Interrupted as interruption:
            # Until an existing run has resumed, its directory may lack this command's options: repeat the command.
            interruption.advice = "" if trainer is None and folder is not None else _stopped(settings)
            raise
        except TrainingError:  # its message is complete
            raise
        except UserError as error:
            if trainer is not None and trainer.folder.has_checkpoints():
                error.add_note(f"resume with: {_resume_command(settings)}")
            raise


@contextmanager
def _joined(stop: StopRequest) -> Iterator[torch.device]:
    """Join the other ranks. A signal is answered while waiting for them."""
    with ExitStack() as stack:
        with stop.raise_immediately():
            device = stack.enter_context(process_group())
        yield device


@contextmanager
def _explained(config: Config) -> Iterator[None]:
    """Explain file errors, and out-of-memory errors outside the training step."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{config.output.dir}: a file cannot be read or written: {error}") from None
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortageError(
            f"out of memory outside the training step ({str(error).splitlines()[0]}). Check what else uses the "
            "memory, set a smaller train.micro_batch or evaluation.batch_size, or start a run with train.ema=false"
        ) from None


def _find_run(
    config: Config | Path | None, resume: Path | None, overrides: list[str], auto_resume: bool
) -> tuple[Config, RunFolder | None]:
    """Return the requested configuration, and the directory of the run to resume, if there is one."""
    if resume is not None:
        folder = RunFolder.open(resume)
        return folder.config(overrides), folder
    settings = override(config, overrides) if isinstance(config, Config) else load_config(config or Path(), overrides)
    folder = RunFolder(Path(settings.output.dir))
    if not folder.is_run:
        return settings, None
    if not auto_resume and not num_restarts():
        folder.refuse_new()
    return settings, folder


def _stopped(config: Config) -> str:
    """Return the message of a stopped run; empty before there is a run directory."""
    folder = RunFolder(Path(config.output.dir))
    if not folder.is_run:
        return ""
    stopped = "Stopped." if folder.has_checkpoints() else "Stopped before the first checkpoint."
    return f"{stopped} Resume with:\n{_resume_command(config)}"


def _resume_command(config: Config) -> str:
    name = config.downsample.name
    trust = f"{TRUST_VARIABLE}={shlex.quote(name)} " if ":" in name else ""
    return f"{trust}{launcher()} train --resume {shlex.quote(config.output.dir)}"


def _prepare(
    config: Config,
    folder: RunFolder | None,
    device: torch.device,
    stop: StopRequest,
    stack: ExitStack,
    accepted: Sequence[str],
) -> Trainer:
    """Return the trainer of a run. Nothing needs saving before it returns.

    Args:
        config: Requested configuration.
        folder: Directory of the run to resume, if there is one.
        device: Device of this rank.
        stop: Stop requests of the run.
        stack: Holds the lock of the directory.
        accepted: Accepted changes.
    """
    # Lock the run and find its newest checkpoint.
    claim(config, folder, stack)
    checkpoint = find_newest(folder)
    # Check the changes to the configuration before reading any data.
    changed: set[str] = set()
    if folder is not None:
        config, changed = settle_config(config, folder, checkpoint, accepted)
    # Build the parts of every run, then create or restore this one.
    built = build(config, checkpoint.record.held_out if checkpoint else None, device, stop)
    if folder is None or checkpoint is None:
        return create(built, folder, stack)
    return restore(built, folder, checkpoint, changed, accepted)


def _fit(trainer: Trainer) -> None:
    """Run the training loop, and report how it ended."""
    config, folder, state = trainer.config, trainer.folder, trainer.state
    # Report a run that is over already.
    over = describe_ending(config, state)
    if over is not None and distributed.is_main():
        how = (
            "raise train.epochs" if state.epoch >= config.train.epochs else "raise train.early_stop, or set it to null"
        )
        say(f"{over}. To continue, {how}")
    # Train.
    try:
        with recorded_end(folder, config, state):
            trainer.fit()
    except NonFiniteError as error:
        saved = list_checkpoints(folder.checkpoints)
        reached = f"resume from {saved[0].name}" if saved else "start again (there is no checkpoint yet)"
        halved = [f"train.{name}={getattr(config.train, name) / 2:g}" for name in ("lr", "lr_encoder")]
        bundle = folder.bundle(state)
        replay = f"Replay it: rfdetr-hwd checkpoint replay {shlex.quote(str(bundle))}. " if bundle.is_dir() else ""
        raise TrainingError(
            f"the loss or gradient of step {state.step + 1} is non-finite: {error}. The step was not applied. "
            f"{replay}Check these images, or {reached} with lower learning rates: {_resume_command(config)} "
            f"--accept train.lr --accept train.lr_encoder {' '.join(halved)}"
        ) from None
    finally:
        with suppress(OSError):  # the disk may be full
            trainer.tracker.close()
    # Report the end.
    if not distributed.is_main():
        return
    ended = describe_ending(config, state)
    if over is None and ended is not None:
        say(ended)
    if state.best_ap is not None:
        say(f"best: {state.best_weights} AP {state.best_ap:.4f} at step {state.best_step}, in {folder.best}")
        say(f"evaluate it: rfdetr-hwd evaluate --weights {shlex.quote(str(folder.path))}")
