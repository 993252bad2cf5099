"""Parts of the rehearsal with numbers, on a CPU that is taken for a GPU: the metrics are those of the CPU."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from rfdetr_hwd.amp import forward_in_amp
from rfdetr_hwd.checkpoint.train_state import TrainState
from rfdetr_hwd.cli.checkpoint import replay as replay_command
from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.data.handover import collate_and_pack
from rfdetr_hwd.data.workers import WorkerPool, Workers
from rfdetr_hwd.evaluation.evaluate import PassSize
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.model.build import BuiltModel
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.runtime.gradient_averaging import GradientAverager
from rfdetr_hwd.runtime.interrupt import StopRequest
from rfdetr_hwd.runtime.random_state import random_state
from rfdetr_hwd.training.auto_batch import choose_micro_batch
from rfdetr_hwd.training.train_step import Totals
from rfdetr_hwd.training.trainer import Trainer
from tests.rehearsal import steps
from tests.rehearsal.checks import check, silent
from tests.rehearsal.fake_device import Traffic, fake_cuda
from tests.rehearsal.pretended_device import pretended_cuda

_CPU = torch.device("cpu")
_PASSES = ("training.train_step", "evaluation.auto_batch", "evaluation.evaluate")
"""Modules that make forward passes."""


def step_with_data() -> None:
    """A training step in which every branch for CUDA is taken, the real solver among them, is that of the CPU."""
    model, twin = steps.build(), steps.build()
    expected = steps.train(model, _CPU, Traffic()).tensors()
    with pretended_cuda():
        found = steps.train(twin, steps.CUDA, Traffic()).tensors()
    check(found.keys() == expected.keys(), "it makes other tensors")
    differing = [key for key, value in expected.items() if not torch.equal(found[key], value)]
    check(not differing, f"{len(differing)} of {len(expected)} tensors differ, such as {differing[:3]}")


def evaluation_and_prediction() -> None:
    """An evaluation pass and a prediction, on the device that they choose, give what the CPU gives."""
    model = steps.build()
    expected = steps.measure(model, _CPU), steps.predict(model)
    with pretended_cuda():
        check((steps.measure(model, steps.CUDA), steps.predict(model)) == expected, "the detections differ")


def memory() -> None:
    """`train.micro_batch=auto` and the evaluation find what fits, and a step that does not fit is cut."""
    model = steps.build()
    with pretended_cuda():
        trained = steps.train(model, steps.CUDA, Traffic())
        averager = GradientAverager([])
        learner: Any = SimpleNamespace(
            network=trained.network, optimizer=trained.optimizer, ema=None, schedule=mock.Mock(), averager=averager
        )
        check(_micro_batch(model, learner) == 3, "not all of 3 images fit")
        check(_evaluation_pass(learner) == 2, "not all of 2 images fit an evaluation")
        with _room_for(2) as freed, silent("rfdetr_hwd"):
            check(_micro_batch(model, learner) == 2, "not 2 of 3 images fit")
            trainer = _trainer(model, learner)
            trainer._step(steps.make_batch(), Totals(5.0, 3))
            state = trainer.state
            check((state.micro_batch, state.step) == (2, 1), f"{state.micro_batch} of 3 images are kept")
        with _room_for(1) as freed_in_evaluation, silent("rfdetr_hwd"):
            check(_evaluation_pass(learner) == 1, "not one of 2 images fits an evaluation")
            check(len(steps.measure(model, steps.CUDA)) == 3, "not every image is measured")
    check(bool(freed.mock_calls and freed_in_evaluation.mock_calls), "the memory of what did not fit is kept")


def _trainer(model: BuiltModel, learner: Any) -> Trainer:
    config: Any = SimpleNamespace(amp=True, train=SimpleNamespace(micro_batch=None, clip=0.1))
    nothing: Any = None
    criterion = DetectionLoss(model.stock)
    return Trainer(config, learner, TrainState(), nothing, criterion, nothing, nothing, {}, StopRequest())


def _micro_batch(model: BuiltModel, learner: Any) -> int:
    config: Any = SimpleNamespace(amp=True, train=SimpleNamespace(batch_size=3))
    loader: Any = SimpleNamespace(order=SimpleNamespace(resolutions=[steps.SIDE]))
    data: Any = _OneImage()
    return choose_micro_batch(config, learner, DetectionLoss(model.stock), loader, data)


def _evaluation_pass(learner: Any) -> int:
    loader: Any = SimpleNamespace(resolution=steps.SIDE)
    nothing: Any = None
    evaluation = Evaluation(loader, nothing, nothing, steps.ARGS, steps.CUDA, PassSize(2))
    evaluation.fit_into_memory(learner.network, learner.optimizer)
    return evaluation.pass_size.images


@contextmanager
def _room_for(images: int) -> Iterator[mock.Mock]:
    """Let a pass of more images run out of memory; yield what is called to free it."""

    def forward(network: Any, batch: torch.Tensor, args: Any) -> Any:
        if len(batch) > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward_in_amp(network, batch, args)

    with ExitStack() as stack:
        for name in _PASSES:
            stack.enter_context(mock.patch(f"rfdetr_hwd.{name}.forward_in_amp", forward))
        yield stack.enter_context(mock.patch("torch.cuda.empty_cache"))


class _OneImage:
    """Data of one image with two objects."""

    def __len__(self) -> int:
        return 1

    def objects(self, row: int) -> tuple[Any, Any]:
        return torch.zeros(2, 4), torch.zeros(2)


def replay() -> None:
    """`checkpoint replay` makes a step again that was not finite, in one layer of several."""
    model = steps.build()
    record = mock.Mock(non_finite=[mock.MagicMock()], class_weights=[2.0] * len(model.class_names))
    bundle = mock.MagicMock(step=7, record=record)
    bundle.training.return_value = {"random": [random_state()]}

    def forward(network: Any, batch: torch.Tensor, args: Any) -> Any:
        outputs = forward_in_amp(network, batch, args)
        return {**outputs, "pred_boxes": outputs["pred_boxes"] * float("nan")}

    with (
        pretended_cuda(),
        mock.patch("rfdetr_hwd.training.train_step.forward_in_amp", forward),
        mock.patch("rfdetr_hwd.checkpoint.read.open_checkpoint", return_value=bundle),
        mock.patch("rfdetr_hwd.checkpoint.record.read_record", return_value=(mock.Mock(amp=True), model.class_names)),
        mock.patch("rfdetr_hwd.model.build.load_model", return_value=model),
        mock.patch("rfdetr_hwd.training.replay.stored_batches", return_value=[[steps.make_batch()]]),
        mock.patch.multiple(replay_command, print_table=mock.DEFAULT, say=mock.DEFAULT) as said,
    ):
        replay_command.replay(Path("bundle"))
    last = said["say"].call_args.args
    check(last == ("reproduced: non-finite with images [7, 8, 9]",), f"it says {last}")
    terms = {name: value for name, _, value in said["print_table"].call_args.args[2]}
    check(terms["loss_bbox"] == "nan" and terms["loss_bbox_0"] != "nan", f"the terms are {terms}")


def batches() -> None:
    """A batch is pinned where it is loaded, by the process or from a worker, and taken to the device whole."""
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    dataset: Any = [steps.make_batch()]
    with (
        mock.patch("torch.Tensor.pin_memory", pin),
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.accelerator.is_available", return_value=True),
        mock.patch("torch.accelerator.current_accelerator", return_value=steps.CUDA),
    ):
        (loaded,) = WorkerPool(dataset, Workers(0, 60)).serve([[0]])
        handed_over = collate_and_pack([steps.make_batch()]).pin_memory()
    for batch in (loaded, handed_over):
        check(all(any(t is p for p in pinned) for t in _tensors(batch)), "a tensor of the batch is not pinned")
    with fake_cuda():
        devices = {tensor.device.type for tensor in _tensors(loaded.to(steps.CUDA))}
    check(devices == {"cuda"}, "a tensor of the batch stays behind")


def _tensors(batch: Batch) -> list[torch.Tensor]:
    return [batch.images, batch.sizes, batch.packed.labels, batch.packed.boxes]
