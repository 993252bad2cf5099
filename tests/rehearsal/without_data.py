"""Parts of the rehearsal on a device without data: every operator of a pass, with torch's own shapes and devices."""

import io
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from rfdetr_hwd.cli.benchmark import op as benchmark
from rfdetr_hwd.evaluation import operator_speed
from rfdetr_hwd.model.build import BuiltModel
from rfdetr_hwd.runtime import timing
from tests.rehearsal import steps
from tests.rehearsal.checks import check
from tests.rehearsal.fake_device import Traffic, fake_cuda


def step_without_data(model: BuiltModel, side: int | None = None) -> None:
    """A training step: all that it makes is on the device and float32, and it waits for the GPU as often as it must.

    Args:
        model: Which model.
        side: Of its images, in pixels; the model's own if there is none.
    """
    trained = steps.train_on_fake_device(model, side)
    for key, value in trained.tensors().items():
        check(value.device.type == "cuda", f"{key} is on {value.device}")
        check(not value.is_floating_point() or value.dtype == torch.float32, f"{key} is {value.dtype}")
    check_traffic(trained.traffic)


def check_traffic(traffic: Traffic) -> None:
    """Raise where the host waits for the device in a step, or copies more than the batch and whether it is finite."""
    own = [line for line in traffic.of("rfdetr_hwd") if not line.startswith("rfdetr_hwd/data/batch.py")]
    # The gradient of what upstream indexes with positions from the host; it begins in our line.
    others = [line for line in own if "index_put" not in line]
    is_answer_alone = len(others) == 1 and others[0].startswith("rfdetr_hwd/training/unsettled.py")
    check(is_answer_alone and ": cuda -> cpu by " in others[0], f"read or copied in a step: {others}")


def forward_without_data(downsamplers: Iterable[str]) -> None:
    """A forward pass in training mode and the decoding of its outputs, with each downsampler."""
    for name in downsamplers:
        for key, value in steps.forward_on_fake_device(steps.build(name)).items():
            if isinstance(value, torch.Tensor):
                check(value.device.type == "cuda", f"{name}: {key} is on {value.device}")
                check(value.dtype in (torch.float32, torch.int64), f"{name}: {key} is {value.dtype}")


class _Stream:
    """A stream that does nothing; an event, too."""

    def __init__(self, **_: Any) -> None: ...
    def wait_stream(self, _: Any) -> None: ...
    def replay(self) -> None: ...


def benchmark_op() -> None:
    """`benchmark op` on a GPU: every pass is captured as a CUDA graph, in which the host may copy and read nothing."""
    modules, table = list(operator_speed._modules(8, 16)), mock.Mock()

    @contextmanager
    def capture(traffic: Traffic) -> Iterator[None]:
        traffic.clear()
        yield
        refused = [*traffic.copies, *traffic.reads]
        check(not refused, f"not permitted when the stream is capturing: {refused}")

    with (
        fake_cuda() as traffic,
        mock.patch.multiple(operator_speed, SHAPES=((8, 16, 12),), _modules=lambda *_: iter(modules)),
        mock.patch.object(timing, "time", SimpleNamespace(perf_counter=itertools.count(0.0, 0.02).__next__)),
        mock.patch.object(benchmark, "print_table", table),
        mock.patch.multiple(
            torch.cuda,
            Stream=_Stream,
            CUDAGraph=_Stream,
            graph=lambda graph, stream: capture(traffic),
            stream=lambda stream: nullcontext(),
            current_stream=_Stream,
            synchronize=lambda device: None,
            get_device_name=lambda device: "Card",
        ),
        redirect_stdout(io.StringIO()) as said,
    ):
        benchmark.op(batch=2, rounds=1, out=None)
    check(said.getvalue().startswith("machine: Card"), f"it says {said.getvalue()}")
    rows = {row[0]: row[1] for row in table.call_args.args[2]}
    check(rows == {name: "1.00" for name, _ in modules}, f"milliseconds by name: {rows}")
