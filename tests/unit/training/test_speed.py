"""Images per second count the images that were trained on, in the time that went into training."""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.training import train_step as step_module
from rfdetr_hwd.training.progress import ConsoleTracker
from rfdetr_hwd.training.speed import Speed
from tests.unit.training.stand_ins import Folder, make_batch, make_config, make_trainer

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
    """Three steps: of 8 images, of 2, and of a batch that only keeps this rank in step."""

    steps_per_epoch = 3

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def drawn(self, epoch: int) -> dict[str, float]:
        return {}

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for batch in (make_batch(8), make_batch(2), replace(make_batch(8), is_padding=True)):
            self.clock.passes(LOAD)
            yield batch


def test_img_per_second_counts_what_was_trained_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, forward = Clock(), step_module.forward_in_amp

    def timed(network: nn.Module, images: Any, args: object) -> Any:
        clock.passes(STEP / 2 if len(images) == 4 else STEP)  # of 8 images two passes are made
        return forward(network, images, args)

    def measure_each(networks: dict[str, nn.Module], stop: object) -> dict[str, dict[str, float | None]]:
        clock.passes(EVALUATE)
        return {name: {"AP": 0.0, "AP50": 0.0} for name in networks}

    monkeypatch.setattr(step_module, "forward_in_amp", timed)
    speed = Speed(clock)
    trainer = make_trainer(
        make_config("train.epochs=2", "output.save_every_steps=1"),
        nn.Linear(6, 1),
        Loader(clock),
        TrainState(micro_batch=4),
        evaluation=SimpleNamespace(measure_each=measure_each),
        folder=Folder(lambda: clock.passes(SAVE)),
        speed=speed,
        tracker=ConsoleTracker(0, 6, 2),
    )
    trainer.fit()
    lines = [line for line in capsys.readouterr().out.splitlines() if "img/s" in line]
    seconds = LOAD + STEP
    rates = [f"  {images / seconds:.1f} img/s" for images in (8, 2, 0)] * 2
    assert [rate in line for rate, line in zip(rates, lines, strict=True)] == [True] * 6, lines
    lefts = [f"  0:00:{round(seconds * steps):02} left" for steps in (5, 4, 3, 2, 1, 0)]
    assert [line.endswith(left) for left, line in zip(lefts, lines, strict=True)] == [True] * 6, lines
