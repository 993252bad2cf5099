"""The training loop: when to step, log, evaluate, save and stop."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from rfdetr_hwd.checkpoint.run_folder import RunFolder
from rfdetr_hwd.checkpoint.schema import Record
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.data.loader import TrainLoader
from rfdetr_hwd.errors import Interrupted, UserError
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.distributed import SharedError, is_main, max_over_ranks
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.runtime.memory import RUN_REMEDIES, MemoryShortageError, OutOfMemoryError
from rfdetr_hwd.training.ending import ending
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.non_finite import NonFiniteError
from rfdetr_hwd.training.replay import write_bundle
from rfdetr_hwd.training.speed import Speed
from rfdetr_hwd.training.trackers import NullTracker, Tracker
from rfdetr_hwd.training.train_step import StepResult, Totals, TrainStep, count

logger = logging.getLogger(__name__)


@dataclass
class Trainer:
    """A run that is ready to be trained. Every rank has one, and calls its methods in the same place.

    Attributes:
        config: The configuration of the run.
        learner: Network, optimizer, schedule and EMA; changed in place.
        state: Position in the run; changed in place.
        loader: The training images; it may raise `Interrupted` while it waits for them.
        criterion: The loss.
        evaluation: Evaluates a network.
        folder: Directory of the run.
        record: Record of its checkpoints; see `rfdetr_hwd.training.description`.
        stop: Stop requests. They are checked after every step and every evaluated batch.
        speed: Measures every step.
        tracker: Receives the values of logged steps and of evaluations.
    """

    config: Config
    learner: Learner
    state: TrainState
    loader: TrainLoader
    criterion: DetectionLoss
    evaluation: Evaluation
    folder: RunFolder
    record: Record
    stop: StopRequest
    speed: Speed = field(default_factory=Speed)
    tracker: Tracker = field(default_factory=NullTracker)
    _saved_step: int = field(init=False)
    _before: TrainState = field(init=False, default_factory=TrainState)
    _train_step: TrainStep = field(init=False)

    def __post_init__(self) -> None:
        self._saved_step = self.state.step  # it starts from nothing, or from a checkpoint
        network, optimizer, averager = self.learner.network, self.learner.optimizer, self.learner.averager
        self._train_step = TrainStep(network, self.criterion, optimizer, self.config, self.config.train.clip, averager)

    def fit(self) -> None:
        """Train until the last epoch, or until early stopping.

        An epoch is saved before its evaluation, so that a failing evaluation loses no training.

        Raises:
            Interrupted: The run was asked to stop; the state is saved, unless no step was made.
            NonFiniteError: A loss or gradient is non-finite; weights and state are from before the step.
            HalfUpdatedError: The optimizer step ran out of memory.
            MemoryShortageError: A step does not fit into memory; the state before it is saved.
            OtherRankError: Another rank failed.
            Exception: Another failure. If loading or a pass fails on any rank, the state is saved.
        """
        try:
            self._fit()
        except NonFiniteError as error:  # found one step later
            vars(self.state).update(vars(self._before))
            self._bundle(error)
            raise

    def _fit(self) -> None:
        state, log_every = self.state, self.config.train.log_every
        self.learner.network.train()
        while ending(self.config, state) is None:
            self._stop_if(self.stop.code_on_any_rank())
            if state.is_evaluation_due:  # of the epoch before, or of the last one of an interrupted run
                self._evaluate()
                continue
            self.speed.start()
            for batch, totals in self._batches():
                # Step. The state includes it when this returns.
                with self._saved_on_failure():
                    result = self._step(batch, totals)
                # Log, once the device has finished the step.
                if is_log_due := state.step % log_every == 0:
                    self._train_step.settle()
                self.speed.stop(result.num_images)
                if is_log_due:
                    self._log(result)
                # Save, if it is due.
                if state.step_in_epoch == self.loader.steps_per_epoch:
                    state.end_epoch(self.config.train.epochs, self.config.evaluation.every)
                if self._is_save_due():
                    self.save()
                self.speed.start()

    def save(self, again: bool = False) -> None:
        """Write a checkpoint, unless there is one: when due, on a stop request, on a failure, on an accepted change.

        Args:
            again: Also if there is one, because the record of the run has changed.
        """
        if self.state.step == self._saved_step and not again:
            return
        self._train_step.settle()
        training = self.learner.training_state()
        if is_main():
            weights = {kind: network.state_dict() for kind, network in self.learner.networks().items()}
            self.folder.save(self.state, self.record, weights, training, self.config.output.keep_last)
        distributed.barrier()
        self._saved_step = self.state.step

    def _is_save_due(self) -> bool:
        """Return whether a checkpoint is due after the last step."""
        state, output = self.state, self.config.output
        if state.step_in_epoch == 0:
            return state.is_evaluation_due or state.epoch % output.save_every == 0
        return output.save_every_steps is not None and state.step % output.save_every_steps == 0

    def _stop_if(self, code: int) -> None:
        """Save and end the run, if the ranks have agreed on an exit status other than 0."""
        if code:
            self.save()
            raise Interrupted(code)

    @contextmanager
    def _saved_on_failure(self) -> Iterator[None]:
        """If loading or a pass fails on any rank, save the state from before it, then raise."""
        try:
            yield
        except (MemoryShortageError, SharedError) as error:
            self._train_step.settle()  # a step before that cannot be kept is why the run ends
            try:
                self.save()
                if self._saved_step and is_main():
                    logger.warning("a checkpoint is saved at step %d", self._saved_step)
            except Exception as failure:  # it must not hide why the run ends
                logger.warning("step %d could not be saved: %s", self.state.step, failure)
            raise (error.original if isinstance(error, SharedError) else error) from None

    def _batches(self) -> Iterator[tuple[Batch, Totals]]:
        """Yield this rank's batch of each step of the current epoch, and what all ranks' batches count together.

        If a rank is asked to stop, also while it waits for a batch, or loading fails, all ranks save and stop there.
        """
        batches = self.loader.epoch(self.state.epoch, self.state.step_in_epoch)
        while True:
            batch, failure, code = None, None, self.stop.code
            try:
                batch = next(batches, None) if not code else None
            except Interrupted as interruption:
                code = interruption.status
            except Exception as error:
                failure = error
            counts = count(self.criterion, [batch]) if batch is not None else (0, 0)
            ranks = distributed.share(int(failure is not None), code, *counts)
            with self._saved_on_failure():
                distributed.raise_shared(failure, [bool(failed) for failed, *_ in ranks])
            self._stop_if(max(code for _, code, *_ in ranks))
            if batch is None:
                return
            yield batch, Totals.over([(boxes, images) for *_, boxes, images in ranks])

    def _step(self, batch: Batch, totals: Totals) -> StepResult:
        """Make one optimizer step. Out of memory, it is retried with half the micro-batch, down to 1.

        A retry starts from the same random state. The size that fits is kept in the state.

        Raises:
            MemoryShortageError: A micro-batch of one image does not fit; weights, state and generators are unchanged.
            SharedError: A pass failed, on any rank; weights, state and random generators are unchanged.
            HalfUpdatedError: The update of the step before ran out of memory; the weights are partly updated.
            NonFiniteError: The loss or the gradient of the step before is non-finite.
        """
        learner, state, before = self.learner, self.state, replace(self.state)
        learner.schedule.apply(learner.optimizer, state.step)
        configured = self.config.train.micro_batch
        whole = configured if isinstance(configured, int) else len(batch.image_ids)
        # Try the step, with smaller passes if memory is short.
        while True:
            micro_batches = batch.split(state.micro_batch or whole)
            try:
                result = self._train_step(micro_batches, totals)
                break
            except OutOfMemoryError:  # handled below, where no traceback holds the tensors
                largest = max_over_ranks(len(micro_batches[0].image_ids))
            torch.cuda.empty_cache()
            self._halve_micro_batch(largest)
        # Update the state and the EMA.
        self._before = before
        state.step, state.step_in_epoch = state.step + 1, state.step_in_epoch + 1
        if learner.ema is not None:
            learner.ema.update(learner.network, state.step)
        return result

    def _halve_micro_batch(self, largest: int) -> None:
        step, half = self.state.step + 1, -(-largest // 2)
        if half == largest:
            raise MemoryShortageError(
                f"step {step} does not fit into memory, even with train.micro_batch=1. {RUN_REMEDIES}; or start a new "
                "run with a lower model.resolution"
            )
        self.state.micro_batch = half
        if is_main():
            logger.warning("out of memory at step %d; retrying with micro-batch %d (same global batch)", step, half)

    def _bundle(self, error: NonFiniteError) -> None:
        """Write the bundle of a failed step. A failure here must not hide why the run stops."""
        try:
            write_bundle(self.folder, self.state, self.record, self.learner.network, error)
        except UserError as failure:
            logger.warning("the inputs of the failed step could not be saved: %s", failure)

    def _evaluate(self) -> None:
        """Evaluate what is due. Record the metrics in the state, the trackers and the checkpoint."""
        state = self.state
        networks = self.learner.evaluated_networks(self.config, state.epoch)
        state.record_metrics(self.evaluation.measure_each(networks, self.stop))
        extra = {**self.learner.band_energies(), **self.loader.drawn(state.epoch - 1)}
        self.tracker.log(state.step, {"epoch": state.epoch, **state.metrics, **extra})
        if is_main():
            self.folder.record_metrics(state, self.config.output.keep_last)
        distributed.barrier()

    def _log(self, result: StepResult) -> None:
        """Log a step over all ranks. Every rank calls it in the same step."""
        learner, state = self.learner, self.state
        rates = {"lr_factor": learner.schedule.factor(state.step - 1), **learner.learning_rates()}
        self.tracker.log(state.step, {"epoch": state.epoch, **result.over_ranks(), **rates, **self.speed.take()})
