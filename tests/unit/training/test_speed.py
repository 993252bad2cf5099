"""Images per second count the images that were trained on, in the time that went into training."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from torch import nn

from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.training import train_step as step_module
from rfdetr_hwd.training.learner import Learner
from rfdetr_hwd.training.optimizer import Schedule, build_adamw
from rfdetr_hwd.training.progress import ConsoleTracker
from rfdetr_hwd.training.replay import StoredBatch
from rfdetr_hwd.training.speed import Speed
from rfdetr_hwd.training.trainer import LoopParts, fit
from tests.unit.training.test_auto_batch import ARGS, PLAN, Loss, batch

LOAD, STEP, SAVE, EVALUATE = 1.0, 3.0, 100.0, 10_000.0
"""Seconds that things take."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


class Loader:
    """Three updates of 8, 8 and 2 images, the last with a batch that only keeps this rank in step."""

    updates_per_epoch = 3

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def epoch(self, epoch: int, first_update: int = 0) -> Iterator[list[StoredBatch]]:
        for sizes in ([4, 4], [8], [2]):
            self.clock.passes(LOAD)
            yield [batch(size) for size in sizes] + ([replace(batch(6), is_counted=False)] if sizes == [2] else [])


def test_img_per_second_counts_what_was_trained_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, forward = Clock(), step_module.forward_in_amp

    def timed(network: nn.Module, images: Any, args: object) -> Any:
        clock.passes(STEP / 2 if len(images) in (4, 2, 6) else STEP)
        return forward(network, images, args)

    def evaluate(_: nn.Module) -> dict[str, float | None]:
        clock.passes(EVALUATE)
        return {"AP": 0.0, "AP50": 0.0}

    monkeypatch.setattr(step_module, "forward_in_amp", timed)
    network = nn.Linear(6, 1)
    optimizer = build_adamw([(name, p, 1e-2, 0.0) for name, p in network.named_parameters()])
    speed, nothing = Speed(clock), lambda *_: None
    tracker = ConsoleTracker(0, 6, 2, speed)
    parts = LoopParts(
        *(Loader(clock), Loss(), evaluate, lambda _: clock.passes(SAVE), nothing, nothing, tracker, StopRequest()),
        speed=speed,
    )
    plan = replace(PLAN, epochs=2, save_every_updates=1)
    fit(Learner(network, optimizer, Schedule("constant", 0, 6), None), parts, plan, TrainState(), ARGS)
    lines = [line for line in capsys.readouterr().out.splitlines() if "img/s" in line]
    seconds = LOAD + STEP
    rates = [f"{images / seconds:.1f} img/s" for images in (8, 8, 2)] * 2
    assert [rate in line for rate, line in zip(rates, lines, strict=True)] == [True] * 6, lines
    lefts = [f"  0:00:{round(seconds * steps):02} left" for steps in (5, 4, 3, 2, 1, 0)]
    assert [line.endswith(left) for left, line in zip(lefts, lines, strict=True)] == [True] * 6, lines
