"""`rfdetr-hwd train`: build everything a configuration names, and fit."""

import functools
import importlib.util
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from rfdetr_hwd.checkpoint.read import Checkpoint, list_checkpoints, open_checkpoint
from rfdetr_hwd.checkpoint.record import TRUST_VARIABLE, find_checkpoint, read_record
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.run_log import add_start
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.load import load_config, override_keys, with_bit_depth
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.console import print_table, say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.shared_memory import foresee_shortage
from rfdetr_hwd.errors import ConfigError, Interrupted, UserError
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.layers.registry import check_downsample
from rfdetr_hwd.model.build import BuiltModel, build_model, downsample_options
from rfdetr_hwd.model.pretrained import find_source
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.model.source_weights import SourceWeights
from rfdetr_hwd.model.weights import load_weights
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.determinism import make_deterministic
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.runtime.launch import launcher, num_local_ranks, num_restarts
from rfdetr_hwd.runtime.memory import MemoryShortageError, is_out_of_memory
from rfdetr_hwd.runtime.process_group import process_group
from rfdetr_hwd.runtime.random_state import seed_all
from rfdetr_hwd.training.assignment import prepare_solver
from rfdetr_hwd.training.data import build_train_loader, read_data
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.limits import say_limits, say_overlap
from rfdetr_hwd.training.resume import restore
from rfdetr_hwd.training.setup import (
    Saver,
    build_learner,
    build_plan,
    build_tracker,
    choose_micro_batch,
    describe_ending,
    describe_model,
    describe_run,
    recorded_end,
)
from rfdetr_hwd.training.speed import Speed
from rfdetr_hwd.training.train_step import NonFiniteError
from rfdetr_hwd.training.trainer import LoopParts, fit
from rfdetr_hwd.training.validation_split import HELD_OUT, recorded_held_out


class TrainingError(UserError):
    """A run that cannot go on."""


def run(
    config: Path | None,
    resume: Path | None,
    overrides: list[str],
    accepted: Sequence[str] = (),
    auto_resume: bool = False,
) -> None:
    """Train a new run from a configuration, or continue one.

    Args:
        config: YAML file of a new run.
        resume: Run folder to continue.
        overrides: `key=value` assignments.
        accepted: Keys whose change is accepted, and `annotations`, when a run is continued.
        auto_resume: Continue the run in `output.dir` if there is one. A launcher that starts the ranks again means it.

    Raises:
        UserError: What the user gave is wrong, or the run cannot go on.
        Interrupted: The run was asked to stop, and says how to go on.
    """
    if (config is None) == (resume is None):
        raise ConfigError("give --config FILE for a new run, or --resume RUN_DIR to continue one")
    if resume is not None and auto_resume:
        raise ConfigError("--auto-resume goes with --config; --resume continues the run in any case")
    if resume is not None and "output.dir" in override_keys(overrides):
        raise ConfigError("output.dir cannot be changed for a resumed run: move its folder instead")
    settings, folder = _find_run(config, resume, overrides, accepted, auto_resume)
    if accepted and folder is None:
        raise ConfigError("--accept goes with a run that is continued: there is none yet")
    if "tensorboard" in settings.output.trackers and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("output.trackers: run `pip install tensorboard` first, or leave tensorboard out")
    check_downsample(settings.downsample.name, **downsample_options(settings.downsample))
    if settings.train.deterministic:
        make_deterministic()
    stop, stage = StopRequest(settings.train.max_hours), None
    with stop.listening(), _joined(stop) as device, ExitStack() as stack, _explained(settings):
        try:
            with stop.at_once():
                stage = _prepare(settings, folder, device, stop, stack, accepted)
            _fit(settings, stage)
        except Interrupted as interruption:
            # Before an existing run goes on, its folder need not know all that was said: it is said again.
            interruption.advice = "" if stage is None and folder is not None else _stopped(settings)
            raise
        except TrainingError:  # says so itself
            raise
        except UserError as error:
            if stage is not None and stage.folder.has_checkpoints():
                error.add_note(f"to go on: {_resume_command(settings)}")
            raise


@contextmanager
def _joined(stop: StopRequest) -> Iterator[torch.device]:
    """Join the other ranks, and answer a signal while they are waited for."""
    with ExitStack() as stack:
        with stop.at_once():
            device = stack.enter_context(process_group())
        yield device


@contextmanager
def _explained(config: Config) -> Iterator[None]:
    """Say what was wrong where memory or a file fails beside the updates."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{config.output.dir}: a file cannot be read or written: {error}") from None
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryShortageError(
            f"there is no memory left beside the updates ({str(error).splitlines()[0]}). See what else is in it, set a "
            "smaller train.micro_batch or evaluation.batch_size, or start a run with train.ema=false"
        ) from None


def _find_run(
    config: Path | None, resume: Path | None, overrides: list[str], accepted: Sequence[str], auto_resume: bool
) -> tuple[Config, RunFolder | None]:
    """Return the configuration, and the folder of the run to continue, if there is one."""
    if resume is not None:
        folder = RunFolder.open(resume)
        return folder.config(overrides, accepted), folder
    settings = load_config(config or Path(), overrides)
    folder = RunFolder(Path(settings.output.dir))
    if not folder.is_run:
        return settings, None
    if auto_resume or num_restarts():
        return folder.check(settings, accepted), folder
    raise folder.taken()


def _stopped(config: Config) -> str:
    """Return what to say of a run that was asked to stop; empty before there is a run folder."""
    folder = RunFolder(Path(config.output.dir))
    if not folder.is_run:
        return ""
    newest = f"saved in {folder.path}" if folder.has_checkpoints() else "no update was saved yet"
    return f"stopped; {newest}; to go on:\n{_resume_command(config)}"


def _resume_command(config: Config) -> str:
    name = config.downsample.name
    trust = f"{TRUST_VARIABLE}={shlex.quote(name)} " if ":" in name else ""
    return f"{trust}{launcher()} train --resume {shlex.quote(config.output.dir)}"


@dataclass(frozen=True)
class _Stage:
    """A run that is ready to be trained."""

    folder: RunFolder
    learner: Learner
    parts: LoopParts
    state: TrainState


def _prepare(
    config: Config,
    folder: RunFolder | None,
    device: torch.device,
    stop: StopRequest,
    stack: ExitStack,
    accepted: Sequence[str],
) -> _Stage:
    """Put the parts of a run together and restore what a checkpoint holds. Nothing needs saving until this is done."""
    _claim(config, folder, stack)
    checkpoint = _find_newest(folder)
    train_data, val_data, held_out = read_data(config, recorded_held_out(checkpoint))
    config = with_bit_depth(config, train_data.options.bit_depth)
    seed_all(config.train.seed)
    model = _build_model(config, train_data, is_fresh=checkpoint is None)
    if distributed.is_main():
        say_limits(model, train_data, val_data, config.evaluation.max_dets)
        say_overlap(train_data, val_data)
    model.network.to(device)
    prepare_solver(device)
    state = TrainState() if checkpoint is None else checkpoint.state
    folder = folder or _create_folder(config, stack)
    quarantine = folder.quarantine_file(distributed.rank())
    loader = build_train_loader(config, model, train_data, quarantine, stop.check_alone)
    learner = build_learner(config.train, model, loader.updates_per_epoch, state)
    recorded = {HELD_OUT: held_out.as_record()} if held_out else {}
    description = {**describe_model(config, train_data, val_data), **recorded}
    criterion = DetectionLoss(model.stock).to(device)
    if config.train.epochs < state.epoch:
        raise ConfigError(f"train.epochs={config.train.epochs}: the run has {state.epoch} epochs behind it already")
    has_changed = False
    if checkpoint is not None:
        has_changed = restore(checkpoint, description, config, learner, loader.updates_per_epoch, accepted)
        if distributed.is_main():
            say(f"resumed from {checkpoint.path} at step {state.step}, epoch {state.epoch}")
            folder.point_best(state)
    evaluation = Evaluation.build(model, val_data, config, device)
    if config.train.micro_batch == "auto":
        state.micro_batch = state.micro_batch or choose_micro_batch(config, learner, criterion, loader, train_data)
        evaluation.fit_into_memory(learner.network, learner.optimizer)
    if distributed.is_main():
        batches = {"training": loader.largest_batch, "evaluation": evaluation.loader.largest_batch}
        foresee_shortage(batches, config.data.workers, num_local_ranks())
    saver, speed = Saver(folder, learner, description, config.output.keep_last), Speed()
    if has_changed:  # so that what was accepted once need not be said again
        saver.save(state)
    if distributed.is_main():
        folder.retire_best(state)
        folder.write_config(config)
        described = describe_run(config, learner, loader, train_data, val_data, state)
        add_start(folder.log_file, {**described, **recorded})
    parts = LoopParts(
        loader=loader,
        criterion=criterion,
        evaluate=functools.partial(evaluation.measure, stop=stop),
        save=saver.save,
        amend=saver.amend,
        bundle=saver.bundle,
        tracker=build_tracker(config, folder, state, loader.updates_per_epoch, speed),
        stop=stop,
        speed=speed,
    )
    return _Stage(folder, learner, parts, state)


def _claim(config: Config, folder: RunFolder | None, stack: ExitStack) -> None:
    """Lock the folder of an existing run for as long as the stack lasts; every rank must have found it."""
    if distributed.broadcast_object(folder is not None) != (folder is not None):
        here = f"rank {distributed.rank()} and rank 0 do not see the same in {config.output.dir}"
        raise ConfigError(f"output.dir: {here}: it must be a folder that all machines share")
    if folder is not None and distributed.is_main():
        stack.enter_context(folder.lock())
    distributed.barrier()


def _find_newest(folder: RunFolder | None) -> Checkpoint | None:
    """Return the checkpoint to go on from, the one that rank 0 finds on every rank; `None` for a new run."""
    found = folder.newest() if folder and distributed.is_main() and folder.has_checkpoints() else None
    name = distributed.broadcast_object(found.path.name if found else "")
    return open_checkpoint(folder.checkpoints / name) if folder and name and not found else found


def _fit(config: Config, stage: _Stage) -> None:
    """Run the loop; say what was wrong when it cannot go on."""
    plan, folder, state = build_plan(config), stage.folder, stage.state
    over = describe_ending(plan, state)
    if over and distributed.is_main():
        how = "raise train.epochs" if state.epoch >= plan.epochs else "raise train.early_stop, or set it to null"
        say(f"{over}; to go on, {how}")
    try:
        with recorded_end(folder, plan, state):
            fit(stage.learner, stage.parts, plan, state, config)
    except NonFiniteError as error:
        saved = list_checkpoints(folder.checkpoints)
        reached = f"from {saved[0].name}" if saved else "from the start"
        raise TrainingError(
            f"the loss or gradient of step {state.step + 1} is not finite, and was not applied: {error}. To make it "
            f"again: rfdetr-hwd checkpoint replay {shlex.quote(str(folder.bundle(state)))}. Look at these images, or "
            f"go on {reached} with another learning rate: {_resume_command(config)} "
            f"--accept train.lr train.lr={config.train.lr / 2:g}"
        ) from None
    finally:
        with suppress(OSError):  # the disk may be full
            stage.parts.tracker.close()
    if distributed.is_main() and not over:
        say(describe_ending(plan, state))
    if distributed.is_main() and state.best_ap is not None:
        say(f"best: {state.best_weights} AP {state.best_ap:.4f} at step {state.best_step}, in {folder.best}")
        say(f"to measure it: rfdetr-hwd evaluate --weights {shlex.quote(str(folder.path))}")


def _build_model(config: Config, data: DetectionData, is_fresh: bool) -> BuiltModel:
    """Build the model; a fresh one starts from the pretrained weights. The ranks' generators part afterwards."""
    model = build_model(config.model, config.downsample, data.class_names)
    if distributed.is_main():
        sites = len(model.replacements)
        what = f"{config.downsample.name} at {sites} sites of the {config.downsample.site}" if sites else "stock"
        parameters = sum(parameter.numel() for parameter in model.network.parameters()) / 1e6
        size = f"{parameters:.1f} M parameters, {model.stock.resolution} px"
        levels = "+".join(model.stock.levels)
        say(f"model: RF-DETR {config.model.variant}, levels {levels}, {size}; downsampling: {what}")
    source = _find_source(config) if is_fresh else None
    if source is not None:
        report = load_weights(model.stock, model.class_names, source, config.model.strict_weights)
        if distributed.is_main():
            print_table(f"weights from {source.origin}", ("tensors", "number", "how"), report.rows())
    seed_all(config.train.seed + distributed.rank())
    return model


def _find_source(config: Config) -> SourceWeights | None:
    """Return the weights that `model.pretrain_weights` names: a run or checkpoint folder, a file, or the published."""
    named = config.model.pretrain_weights
    if named is not None and named != "auto" and Path(named).is_dir():
        checkpoint = find_checkpoint(Path(named))
        _, class_names = read_record(checkpoint)
        kind = checkpoint.better_weights
        return SourceWeights(checkpoint.weights(kind), class_names, f"{checkpoint.path} ({kind})")
    source = find_source(config.model) if distributed.is_main() else None  # fetches; the other ranks find the file
    distributed.barrier()
    return source if distributed.is_main() else find_source(config.model)


def _create_folder(config: Config, stack: ExitStack) -> RunFolder:
    """Make the run folder on rank 0 and lock it for as long as the stack lasts; the others wait until it is there."""
    if distributed.is_main():
        folder = RunFolder.create(config)
        stack.enter_context(folder.lock())
        say(f"run folder: {folder.path}")
    distributed.barrier()
    return RunFolder(Path(config.output.dir))
