"""A trainer of a small network, with stand-ins for images, loss, evaluation and run folder."""

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.load import parse_config
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.batch import Batch, PackedTargets
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.optimizer import Schedule, build_adamw
from rfdetr_hwd.training.trainer import Trainer
from tests.unit.checkpoint.records import RECORD

ALWAYS = ["amp=false", "train.epochs=1", "train.log_every=1", "train.clip=0", "evaluation.every=1"]


def make_config(*overrides: str) -> Config:
    """Return a configuration of one epoch in which everything is due always."""
    return parse_config({"data": {"root": "data"}, "output": {"dir": "run"}}, [*ALWAYS, *overrides])


class Loss:
    """Boxes' sum against the outputs."""

    def count_boxes(self, targets: list[dict[str, Tensor]]) -> int:
        return sum(len(target["boxes"]) for target in targets)

    def __call__(self, outputs: Tensor, targets: list[dict[str, Tensor]], num_boxes: float) -> Any:
        wanted = torch.stack([target["boxes"].sum() for target in targets])
        loss = (outputs.squeeze(1) - wanted).square().sum() / num_boxes
        return loss, {"loss": loss.detach()}


def make_batch(size: int, generator: torch.Generator | None = None) -> Batch:
    """Return images of six values, with two boxes each."""
    boxes = [torch.rand(2, 4, generator=generator) for _ in range(size)]
    packed = PackedTargets.pack({"labels": torch.zeros(2, dtype=torch.int64), "boxes": each} for each in boxes)
    images = torch.rand(size, 6, generator=generator)
    return Batch(images, packed, tuple(range(size)), torch.zeros(size, 2, 2))


class Loader:
    """Three steps of so many images."""

    steps_per_epoch = 3

    def __init__(self, size: int) -> None:
        self.size = size

    def drawn(self, epoch: int) -> dict[str, float]:
        return {"drawn/images": 3 * self.size + epoch}

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for update in range(first_step, 3):
            yield make_batch(self.size, torch.Generator().manual_seed(update))


class Folder:
    """A run folder that notes the steps that are saved."""

    def __init__(self, passes: Callable[[], None] = lambda: None) -> None:
        self.passes = passes
        self.saved: list[int] = []

    def save(self, state: TrainState, *_: object) -> None:
        self.passes()
        self.saved.append(state.step)

    def record_metrics(self, state: TrainState, keep_last: int) -> None: ...
    def save_bundle(self, *_: object) -> None: ...


def make_trainer(
    config: Config,
    network: nn.Module,
    loader: Any,
    state: TrainState | None = None,
    aps: Sequence[float | None] = (),
    warmup_steps: int = 0,
    **parts: Any,
) -> Trainer:
    """Return a trainer whose evaluations give the AP's that are named, then 0."""
    named = list(network.named_parameters())
    optimizer = build_adamw([(name, p, 1e-3 if name.startswith("1") else 1e-2, 0.0) for name, p in named])
    metrics = iter(aps)
    evaluation = SimpleNamespace(
        measure_each=lambda networks, stop: {name: {"AP": next(metrics, 0.0)} for name in networks}
    )
    parts = {"evaluation": evaluation, "folder": Folder(), "stop": StopRequest(), "criterion": Loss(), **parts}
    schedule = Schedule("constant", warmup_steps, 99)
    learner = Learner(network, optimizer, schedule, None, lambda name: f"lr_{name[0]}" if name[0].isdigit() else "lr")
    return Trainer(config=config, learner=learner, state=state or TrainState(), loader=loader, record=RECORD, **parts)
