"""Whatever ends the loop, what it has trained is saved before."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.errors import Interrupted, UserError
from rfdetr_hwd.runtime.interrupt import TIME_LIMIT_CODE, StopRequest
from rfdetr_hwd.runtime.memory import HalfUpdatedError, MemoryShortageError
from rfdetr_hwd.training import train_step as step_module
from rfdetr_hwd.training.ending import ending
from rfdetr_hwd.training.non_finite import NonFiniteError
from rfdetr_hwd.training.optimizer import ExponentialMovingAverage
from rfdetr_hwd.training.trackers import NullTracker, Tracker
from tests.unit.training.stand_ins import Folder, Loader, Loss, make_config, make_trainer

RARELY = make_config("train.epochs=9", "evaluation.every=9", "output.save_every=9")


def train(
    config: Config,
    stop: StopRequest,
    loader: Loader,
    aps: Sequence[float | None] = (),
    state: TrainState | None = None,
    tracker: Tracker | None = None,
) -> list[int]:
    """Train and return the saved steps; if it ends with an error, they are noted in it."""
    network, folder = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 1)), Folder()
    parts = {"folder": folder, "stop": stop, "tracker": tracker or NullTracker()}
    trainer = make_trainer(config, network, loader, state, aps, warmup_steps=4, **parts)
    try:
        trainer.fit()
    except BaseException as error:
        error.add_note(str(folder.saved))
        raise
    return folder.saved


class Troubled(Loader):
    """Does something before a step is served, or when all of an epoch are."""

    def __init__(self, when: int, act: Callable[[], None]) -> None:
        super().__init__(8)
        self.when, self.act = when, act

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for update, batch in enumerate(super().epoch(epoch, first_step)):
            if update == self.when:
                self.act()
            yield batch
        if self.when == self.steps_per_epoch:
            self.act()


def test_what_was_due_is_saved_once() -> None:
    config = make_config("train.epochs=3", "output.save_every_steps=2")
    assert train(config, StopRequest(), Loader(8)) == [2, 3, 4, 6, 8, 9]


@pytest.mark.parametrize(
    ("aps", "epochs"), [([0.1, 0.2, 0.1, 0.2, 0.9], 4), ([0.3, 0.1, 0.4, 0.1, 0.1], 5), ([0.1, 0.2, 0.3, 0.4, 0.5], 6)]
)
def test_it_ends_where_ap_has_stopped_rising(aps: list[float], epochs: int) -> None:
    """After two evaluations without a better one; the sixth has AP 0."""
    saved = train(make_config("train.epochs=6", "train.early_stop=2"), StopRequest(), Loader(8), aps)
    assert saved == [3 * epoch for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], {1: "ema", 2: "ema", 3: "ema", 4: "ema", 5: "ema raw"}),
        (["evaluation.raw_every=1"], dict.fromkeys(range(1, 6), "ema raw")),
        (["evaluation.raw_every=2"], {1: "ema", 2: "ema raw", 3: "ema", 4: "ema raw", 5: "ema raw"}),
        (["evaluation.raw_every=2", "evaluation.every=2"], {2: "ema", 4: "ema raw", 5: "ema raw"}),
        (["train.ema=false"], dict.fromkeys(range(1, 6), "raw")),
    ],
)
def test_raw_weights_are_evaluated_when_due(overrides: list[str], expected: dict[int, str]) -> None:
    """Beside the EMA at every so many evaluations and at the last epoch. Without an EMA they are the network."""
    config, tracker = make_config("train.epochs=5", *overrides), Records()
    network = nn.Linear(6, 1)
    trainer = make_trainer(config, network, Loader(8), tracker=tracker)
    if config.train.ema:
        trainer.learner.ema = ExponentialMovingAverage(network, 0.9, 0)
    trainer.fit()
    evaluations = [record for record in tracker.records if "loss" not in record]
    measured = {record["epoch"]: " ".join(n[:-3] for n in record if n.endswith("/AP")) for record in evaluations}
    assert measured == expected


@pytest.mark.parametrize(
    ("aps", "best", "since", "end"),
    [
        ([None, None, None, None], None, 0, "completed"),
        ([None, 0.0, None, None], 0.0, 0, "completed"),
        ([0.2, None, 0.1, 0.1, 0.3], 0.2, 2, "early_stopping"),
        ([0.0, 0.0, 0.0, 0.0], 0.0, 2, "early_stopping"),
        ([0.1, 0.2, 0.1, 0.1], 0.2, 2, "completed"),
    ],
)
def test_what_could_not_be_measured_is_compared_with_nothing(
    aps: list[float | None], best: float | None, since: int, end: str
) -> None:
    config, state = make_config(f"train.epochs={len(aps)}", "train.early_stop=2"), TrainState()
    assert ending(config, state) is None
    train(config, StopRequest(), Loader(8), aps, state)
    assert (state.best_ap, state.evaluations_since_best, ending(config, state)) == (best, since, end)
    assert state.best_step == (0 if best is None else 3 * (aps.index(best) + 1))
    assert ending(config, replace(state, is_evaluation_due=True)) is None


class Records:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[dict[str, float | None]] = []

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        self.records.append({"step": step, **values})

    def close(self) -> None: ...


def test_the_learning_rates_are_recorded_as_they_were_used() -> None:
    """Of each part of the network by its name, while the warm-up raises them."""
    tracker = Records()
    train(make_config("train.epochs=2"), StopRequest(), Loader(8), tracker=tracker)
    steps = [record for record in tracker.records if "loss" in record]
    assert [record["lr_factor"] for record in steps] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    for record in steps:
        assert record["lr_0"] == pytest.approx(1e-2 * record["lr_factor"], rel=1e-12)
        assert record["lr_1"] == pytest.approx(1e-3 * record["lr_factor"], rel=1e-12)


@pytest.mark.parametrize(("when", "step"), [(0, 1), (2, 3), (3, 3)])
def test_a_time_limit_that_passes_anywhere(when: int, step: int) -> None:
    """Also between two epochs, after the last look at it."""
    stop = StopRequest()

    def pass_the_limit() -> None:
        stop._deadline = 0.0

    with pytest.raises(Interrupted) as caught:
        train(RARELY, stop, Troubled(when, pass_the_limit))
    assert caught.value.code == TIME_LIMIT_CODE
    assert caught.value.__notes__ == [str([step])]


@pytest.mark.parametrize(("when", "saved"), [(0, []), (2, [2])])
def test_a_loader_that_fails(when: int, saved: list[int]) -> None:
    def fail() -> None:
        raise UserError("a disk that is gone")

    with pytest.raises(UserError, match="a disk that is gone") as caught:
        train(RARELY, StopRequest(), Troubled(when, fail))
    assert caught.value.__notes__ == [str(saved)]


def test_a_loader_that_fails_does_not_hide_a_broken_step() -> None:
    """It is found one step later, when the loader has failed. The step is not counted."""

    class SecondBroken(Loss):
        number = 0

        def __call__(self, *inputs: Any, **normaliser: Any) -> Any:
            self.number += 1
            loss, terms = super().__call__(*inputs, **normaliser)
            factor = float("nan") if self.number == 2 else 1.0
            return loss * factor, {name: value * factor for name, value in terms.items()}

    def fail() -> None:
        raise UserError("a disk that is gone")

    folder = Folder()
    config = make_config("train.epochs=9", "evaluation.every=9", "output.save_every=9", "train.log_every=9")
    trainer = make_trainer(config, nn.Linear(6, 1), Troubled(2, fail), criterion=SecondBroken(), folder=folder)
    with pytest.raises(NonFiniteError):
        trainer.fit()
    assert (trainer.state.step, trainer.state.step_in_epoch, folder.saved) == (1, 1, [])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
    ],
)
def test_an_update_that_does_not_fit(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, calls = step_module.forward_in_amp, 0

    def full(network: nn.Module, images: Tensor, args: object) -> Any:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise error
        return forward(network, images, args)

    monkeypatch.setattr(step_module, "forward_in_amp", full)
    with pytest.raises(MemoryShortageError, match="step 3 does not fit") as caught:
        train(RARELY, StopRequest(), Loader(8))
    assert caught.value.__notes__ == ["[2]"]


def test_a_pass_that_fails_otherwise_costs_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained is saved as it was before the step, random generators included."""
    forward, states = step_module.forward_in_amp, []

    def broken(network: nn.Module, images: Tensor, args: object) -> Any:
        states.append(torch.get_rng_state())
        torch.rand(1)
        if len(states) > 2:
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
        return forward(network, images, args)

    monkeypatch.setattr(step_module, "forward_in_amp", broken)
    with pytest.raises(RuntimeError, match="CUDNN_STATUS_EXECUTION_FAILED") as caught:
        train(RARELY, StopRequest(), Loader(8))
    assert caught.value.__notes__ == ["[2]"]
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_step_that_the_optimizer_did_in_part_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = torch.optim.AdamW.step, 0

    def full(self: torch.optim.AdamW, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(HalfUpdatedError, match=r"Resume from the newest checkpoint .* train.micro_batch") as caught:
        train(RARELY, StopRequest(), Loader(8))
    assert caught.value.__notes__ == ["[]"]
