"""A step that does not fit into memory is made again in smaller parts, from the same random draws."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.evaluation import auto_batch as evaluation_auto_batch
from rfdetr_hwd.evaluation import evaluate as evaluator
from rfdetr_hwd.evaluation.auto_batch import largest_evaluation_pass
from rfdetr_hwd.evaluation.evaluate import PassSize, detect_in_amp, evaluate
from rfdetr_hwd.runtime.largest_batch import missing_moments
from rfdetr_hwd.runtime.memory import MemoryShortageError
from rfdetr_hwd.training import train_step as step_module
from rfdetr_hwd.training.auto_batch import largest_micro_batch
from tests.unit.training.stand_ins import Loader, Loss, make_batch, make_config, make_trainer

ARGS = SimpleNamespace(amp=False)


class Room:
    """A memory for so many images at once, in the forward pass of training."""

    def __init__(self, size: int, forward: Callable[..., Any]) -> None:
        self.size, self.forward, self.seen = size, forward, []

    def __call__(self, network: nn.Module, images: Tensor, args: object) -> Any:
        self.seen.append(len(images))
        torch.rand(1)  # a failed pass has drawn, too
        if len(images) > self.size:
            raise torch.OutOfMemoryError("no room")
        return self.forward(network, images, args)


def train(
    monkeypatch: pytest.MonkeyPatch, room: int, state: TrainState, size: int = 8, micro_batch: int | None = None
) -> tuple[nn.Module, Room]:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, 1))
    config = make_config(f"train.micro_batch={micro_batch or 'null'}")
    trainer = make_trainer(config, network, Loader(size), state)
    with monkeypatch.context() as patched:
        memory = Room(room, step_module.forward_in_amp)
        patched.setattr(step_module, "forward_in_amp", memory)
        trainer.fit()
    return network, memory


@pytest.mark.parametrize(("room", "size"), [(7, 4), (2, 2), (1, 1)])
def test_the_update_is_made_again_as_if_it_had_never_failed(
    monkeypatch: pytest.MonkeyPatch, room: int, size: int
) -> None:
    state = TrainState()
    network, memory = train(monkeypatch, room, state)
    assert state.micro_batch == size
    assert max(memory.seen[-3 * 8 // size :]) == size, "the size that fits is kept"
    expected, _ = train(monkeypatch, 8, TrainState(micro_batch=size))
    for name, value in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("configured", "decided", "sizes"),
    [(None, 0, [8]), (3, 0, [3, 3, 2]), (8, 0, [8]), (3, 5, [5, 3]), (None, 2, [2, 2, 2, 2])],
)
def test_a_step_is_split_as_memory_has_decided_or_as_configured(
    monkeypatch: pytest.MonkeyPatch, configured: int | None, decided: int, sizes: list[int]
) -> None:
    _, memory = train(monkeypatch, 8, TrainState(micro_batch=decided), micro_batch=configured)
    assert memory.seen == sizes * 3


def test_the_micro_batch_goes_down_to_one_image_before_the_run_gives_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 100 images one fits: seven retries find it, and the run keeps it."""
    state = TrainState()
    _, memory = train(monkeypatch, 1, state, size=100)
    assert (state.micro_batch, state.step) == (1, 3)
    assert memory.seen == [100, 50, 25, 13, 7, 4, 2, *[1] * 300]
    retries = [record.getMessage() for record in caplog.records]
    assert len(retries) == 7
    assert retries[-1] == "out of memory at step 1; retrying with micro-batch 1 (same global batch)"
    state = TrainState()
    with pytest.raises(MemoryShortageError, match=r"train.micro_batch=1.*train.multi_scale.*model.resolution"):
        train(monkeypatch, 0, state)
    assert (state.micro_batch, state.step) == (1, 0)


def test_the_probe_finds_what_fits_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).eval()
    optimizer = torch.optim.AdamW(network.parameters())
    before, generators = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    for room, expected in ((100, 20), (19, 10), (4, 3), (0, 1)):
        monkeypatch.setattr(step_module, "forward_in_amp", Room(room, lambda net, images, _: net(images)))
        assert largest_micro_batch(network, optimizer, Loss(), make_batch, 20, ARGS) == expected
        monkeypatch.undo()
    assert not network.training
    assert torch.equal(torch.get_rng_state(), generators)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_probe_of_an_evaluation_finds_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Conv2d(3, 1, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    for room, expected in ((100, 20), (19, 10), (4, 3), (0, 1)):
        monkeypatch.setattr(evaluation_auto_batch, "forward_in_amp", Room(room, lambda net, images, _: net(images)))
        assert largest_evaluation_pass(network, optimizer, 8, 20, ARGS) == expected
    assert network.training


def test_room_is_set_aside_for_the_moments_that_are_not_there_yet() -> None:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    assert [tuple(moment.shape) for moment in missing_moments(optimizer)] == [(2, 3), (2, 3), (2,), (2,)]
    network(torch.ones(3)).sum().backward()
    optimizer.step()
    assert missing_moments(optimizer) == []


def test_an_evaluation_that_does_not_fit_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    class Metric:
        def reset(self) -> None:
            self.detections: list[dict[str, Any]] = []

        def update(self, image_ids: tuple[int, ...], results: list[Any]) -> None:
            self.add([{"image_id": image_id, "sum": float(r)} for image_id, r in zip(image_ids, results, strict=True)])

        def add(self, detections: list[dict[str, Any]]) -> None:
            self.detections += detections

        def measure(self) -> dict[str, float | None]:
            return {str(d["image_id"]): d["sum"] for d in self.detections}

    room = Room(2, lambda net, images, _: net(images))
    monkeypatch.setattr(evaluator, "forward_in_amp", room)
    images = torch.rand(7, 3)
    whole = replace(make_batch(7), images=images)
    size = PassSize(16)
    device = torch.device("cpu")
    detect = partial(detect_in_amp, postprocess=lambda out, _: list(out.sum(1)), args=ARGS, device=device)
    measure = partial(evaluate, nn.Identity(), [whole], detect, Metric(), size)
    for tried in ([7, 4, 2, 2, 2, 1], [2, 2, 2, 1]):  # what fits is remembered
        room.seen.clear()
        metrics = measure()
        assert metrics == {str(i): float(images[i].sum()) for i in range(7)}
        assert room.seen == tried
    monkeypatch.setattr(evaluator, "forward_in_amp", Room(0, lambda net, images, _: net(images)))
    with pytest.raises(MemoryShortageError, match="of one image does not fit"):
        measure()


def test_a_batch_is_cut_in_order() -> None:
    whole = replace(make_batch(5), image_ids=(5, 6, 7, 8, 9))
    parts = whole.split(2)
    assert [part.image_ids for part in parts] == [(5, 6), (7, 8), (9,)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
