"""Profile a few real steps: where the time goes, and what would change it. Nothing of a run is written."""

import itertools
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from rfdetr_hwd.amp import describe_precision
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.data.loader import TrainLoader
from rfdetr_hwd.data.shared_memory import PREFETCHED
from rfdetr_hwd.errors import UserError, explaining
from rfdetr_hwd.model.source_weights import WeightsError
from rfdetr_hwd.runtime.distributed import SharedError, max_over_ranks, world_size
from rfdetr_hwd.runtime.laps import Laps, lap, measuring_laps
from rfdetr_hwd.runtime.memory import MemoryShortageError, OutOfMemoryError
from rfdetr_hwd.runtime.timing import WARM_UP, Spread, spread, time_in_turns
from rfdetr_hwd.training.auto_batch import choose_micro_batch
from rfdetr_hwd.training.learner import Learner, build_learner
from rfdetr_hwd.training.non_finite import NonFiniteError
from rfdetr_hwd.training.setup import Built
from rfdetr_hwd.training.speed import peak_memory
from rfdetr_hwd.training.train_step import TrainStep

PARTS = {
    "data": "waiting for images",
    "move": "moving them to the device",
    "forward": "forward",
    "loss": "loss, with matching",
    "backward": "backward",
    "average": "averaging gradients over the ranks",
    "clip": "clipping, check for NaN",
    "optimizer": "optimizer",
    "ema": "EMA",
    "logging": "reading the losses for the log",
}
"""The parts of a step, in order: the names of the marks, and what they stand for."""

_ROUNDS = 3
"""Steps that compare two micro-batches, in turns."""


class StepError(UserError):
    """A step that cannot be profiled."""


@dataclass(frozen=True)
class StepProfile:
    """What a few steps took. Images are those of all ranks, seconds those of rank 0.

    Attributes:
        seconds: Mean seconds of each part of a step.
        step: Seconds of a step, median and 95th percentile.
        images: Images of a step.
        micro_batch: Images of one forward pass.
        workers: Data loader workers.
        loader_rate: Images per second that the loader alone gives.
        doubled: Twice the micro-batch, and the factor on the time of a step that it brings; `None`: the step is one
            pass already. A factor of `None`: it does not fit into memory.
        peak_bytes: Peak memory, before a larger pass was tried.
        precision: What the passes compute in.
    """

    seconds: Mapping[str, float]
    step: Spread
    images: int
    micro_batch: int
    workers: int
    loader_rate: float
    doubled: tuple[int, float | None] | None
    peak_bytes: int
    precision: str

    @property
    def mean_step(self) -> float:
        """Mean seconds of a step: the sum of its parts."""
        return sum(self.seconds.values())

    @property
    def images_per_second(self) -> float:
        """Images per second, waiting included."""
        return self.images / self.mean_step

    def fraction(self, *parts: str) -> float:
        """Return the fraction of a step that some parts take."""
        return sum(self.seconds.get(part, 0.0) for part in parts) / self.mean_step


def build_profiled(built: Built, weights: dict[str, Tensor] | None) -> Learner:
    """Return the learner of a run at its first step, with given weights if there are any.

    Raises:
        WeightsError: The weights are those of another model.
    """
    if weights is not None:
        with explaining(RuntimeError, "the weights do not match the model: leave model.* as recorded", WeightsError):
            built.model.network.load_state_dict(weights)
    return build_learner(built.config.train, built.model, built.device, built.loader.steps_per_epoch, TrainState())


def profile_steps(built: Built, learner: Learner, steps: int) -> StepProfile:
    """Make some steps with a learning rate of 0, so that the weights stay what they are, and profile them.

    Args:
        built: From `build`. Its network is the learner's.
        learner: At any step.
        steps: Steps that are counted, after the warm-up.

    Raises:
        MemoryShortageError: A step does not fit into memory.
        StepError: A loss or gradient is non-finite.
    """
    config, loader = built.config, built.loader
    for group in learner.optimizer.param_groups:
        group["lr"] = 0.0
    learner.network.train()
    criterion, averager = built.criterion, learner.averager
    step = TrainStep(learner.network, criterion, learner.optimizer, config, config.train.clip, averager)
    micro = _micro_batch(built, learner)
    batches = _endless(loader)
    try:
        # Profile the steps.
        _run(itertools.islice(batches, WARM_UP), learner, step, micro)
        laps = _run(itertools.islice(batches, steps), learner, step, micro)
        peak = peak_memory()
        # Compare with a larger pass, on one batch.
        batch = next(batches)
        doubled = _try_doubled(batch, learner, step, micro, statistics.mean(laps.steps))
    except OutOfMemoryError:
        raise MemoryShortageError(
            f"a step with {micro} images per forward pass does not fit into memory: set a smaller train.micro_batch"
        ) from None
    except NonFiniteError as error:
        raise StepError(f"the loss or gradient of a step is non-finite: {error}. Check these images") from None
    except SharedError as error:
        raise error.original from None
    return StepProfile(
        seconds={part: laps.seconds[part] / steps for part in PARTS if part in laps.seconds},
        step=spread(laps.steps),
        images=loader.order.batch_size,
        micro_batch=min(micro, len(batch.image_ids)),
        workers=config.data.workers,
        loader_rate=_loader_rate(batches, loader),
        doubled=doubled,
        peak_bytes=peak,
        precision=describe_precision(config, built.device)["precision"],
    )


def _micro_batch(built: Built, learner: Learner) -> int:
    """Return the images of one forward pass."""
    configured, share = built.config.train.micro_batch, -(-built.config.train.batch_size // world_size())
    if configured == "auto":
        return choose_micro_batch(built.config, learner, built.criterion, built.loader, built.data.train) or share
    return configured or share


def _endless(loader: TrainLoader) -> Iterator[Batch]:
    """Yield the batches of one epoch after another."""
    for epoch in itertools.count():
        yield from loader.epoch(epoch)


def _run(batches: Iterable[Batch], learner: Learner, step: TrainStep, micro: int) -> Laps:
    """Make steps as the training loop does, and measure their parts."""
    with measuring_laps(next(learner.network.parameters()).device) as laps:
        for batch in batches:
            _make(batch, learner, step, micro)
            laps.end_step()
    return laps


def _make(batch: Batch, learner: Learner, step: TrainStep, micro: int) -> None:
    """Make a step, and log it."""
    result = step(batch.split(micro))
    if learner.ema is not None:
        learner.ema.update(learner.network, 1)
        lap("ema")
    step.settle()
    result.over_ranks()
    lap("logging")


def _try_doubled(
    batch: Batch, learner: Learner, step: TrainStep, micro: int, mean_step: float
) -> tuple[int, float | None] | None:
    """Return twice the micro-batch, and the factor on the time of a step that it brings; see `StepProfile.doubled`."""
    if not max_over_ranks(int(micro < len(batch.image_ids))):
        return None
    device = next(learner.network.parameters()).device
    sizes = (micro, 2 * micro)
    trials = {size: partial(_make, batch, learner, step, size) for size in sizes}
    try:
        times = time_in_turns(trials, device, _ROUNDS)
    except OutOfMemoryError:  # handled below, where no traceback holds the tensors
        times = None
    if times is None:
        torch.cuda.empty_cache()
        return sizes[1], None
    saved = (spread(times[micro]).median - spread(times[2 * micro]).median) / 1e3
    return sizes[1], 1 - saved / mean_step


def _loader_rate(batches: Iterator[Batch], loader: TrainLoader) -> float:
    """Return the images per second that the loader gives while nothing else is done, on all ranks together."""
    workers = loader.workers.count
    for _ in range(PREFETCHED * workers):  # they are made already
        next(batches)
    number = max(2, workers)  # as many from each worker
    start = time.perf_counter()
    for _ in range(number):
        next(batches)
    return number * loader.order.batch_size / (time.perf_counter() - start)
