"""The parts of the rehearsal: what a CUDA device would run, run without one."""

import io
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from rfdetr_hwd.commands import benchmark, doctor
from rfdetr_hwd.data.dataset import Batch
from rfdetr_hwd.engine import determinism, joining, progress
from rfdetr_hwd.engine.assignment import prepare_solver
from rfdetr_hwd.engine.memory import largest_evaluation_pass
from rfdetr_hwd.engine.random_state import random_state, restore_random_state
from rfdetr_hwd.engine.shortage import is_out_of_memory
from rfdetr_hwd.environment import describe_devices, describe_environment
from rfdetr_hwd.layers.registry import list_downsamples
from rfdetr_hwd.model.upstream import DetectionLoss
from rfdetr_hwd.training import choose_micro_batch
from tests.rehearsal import steps
from tests.rehearsal.fake_device import Traffic, fake_cuda
from tests.rehearsal.pretended_device import pretended_cuda

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """A part of the rehearsal.

    Attributes:
        name: What it shows.
        how: `run`: every operator on a device without data; `patched`: on the CPU, told that it is a GPU, or with
            stand-ins for what needs a driver.
        run: Runs it; what is wrong raises.
    """

    name: str
    how: str
    run: Callable[[], None]


def check(is_right: bool, what: str) -> None:
    """Raise what is wrong."""
    if not is_right:
        raise AssertionError(what)


def step_without_data(name: str, site: str) -> None:
    """A training step: all that it makes is on the device and float32, and it waits for the GPU as often as it must."""
    trained = steps.train_on_fake_device(steps.build(name, site))
    for key, value in trained.tensors().items():
        expected = "cpu" if key.startswith("optimizer/") and key.endswith("/step") else "cuda"
        check(value.device.type == expected, f"{key} is on {value.device}")
        check(not value.is_floating_point() or value.dtype == torch.float32, f"{key} is {value.dtype}")
    check_traffic(trained.traffic)


def check_traffic(traffic: Traffic) -> None:
    """Raise where the package copies or reads more in a step than the batch, and whether the loss is finite."""
    own = [line for line in traffic.of("rfdetr_hwd") if not line.startswith("rfdetr_hwd/data/dataset.py")]
    reads = [line for line in own if line.endswith(": read")]
    check(len(reads) == 1 and reads[0].startswith("rfdetr_hwd/engine/train_step.py"), f"the host reads {reads}")
    # The gradient of what upstream indexes with positions from the host; it begins in our line.
    others = [line for line in own if line not in reads and "index_put" not in line]
    check(not others, f"copied in a step: {others}")


def forward_without_data() -> None:
    """A forward pass in training mode and the decoding of its outputs, with every downsampler."""
    for name in list_downsamples():
        for key, value in steps.forward_on_fake_device(steps.build(name)).items():
            if isinstance(value, torch.Tensor):
                check(value.device.type == "cuda", f"{name}: {key} is on {value.device}")
                check(value.dtype in (torch.float32, torch.int64), f"{name}: {key} is {value.dtype}")


def step_with_data() -> None:
    """A training step in which every branch for CUDA is taken, the real solver among them, is that of the CPU."""
    model, twin = steps.build(), steps.build()
    twin.network.load_state_dict(model.network.state_dict())
    expected = steps.train(model, CPU, Traffic()).tensors()
    with pretended_cuda():
        found = steps.train(twin, steps.CUDA, Traffic()).tensors()
    check(found.keys() == expected.keys(), "it makes other tensors")
    differing = [key for key, value in expected.items() if not torch.equal(found[key], value)]
    check(not differing, f"{len(differing)} of {len(expected)} tensors differ, such as {differing[:3]}")


def evaluation_and_prediction() -> None:
    """An evaluation pass and a prediction, on the device that they choose, give what the CPU gives."""
    model = steps.build()
    expected = steps.measure(model, CPU), steps.predict(model)
    with pretended_cuda():
        check((steps.measure(model, steps.CUDA), steps.predict(model)) == expected, "the detections differ")


def probes() -> None:
    """`train.micro_batch=auto` and the probe of the evaluation try their passes."""
    model = steps.build()
    with pretended_cuda():
        trained = steps.train(model, steps.CUDA, Traffic())
        learner = SimpleNamespace(network=trained.network, optimizer=trained.optimizer)
        loader = SimpleNamespace(order=SimpleNamespace(resolutions=[steps.SIDE]))
        data = _OneImage()
        config = SimpleNamespace(amp=True, train=SimpleNamespace(batch_size=3))
        size = choose_micro_batch(config, learner, DetectionLoss(model.stock), loader, data)
        check(size == 3, f"{size} of 3 images fit")
        size = largest_evaluation_pass(trained.network, trained.optimizer, steps.SIDE, 2, steps.ARGS)
        check(size == 2, f"{size} of 2 images fit an evaluation")


class _OneImage:
    """Data of one image with two objects."""

    def __len__(self) -> int:
        return 1

    def objects(self, row: int) -> tuple[Any, Any]:
        return torch.zeros(2, 4), torch.zeros(2)


def batches() -> None:
    """A batch is pinned and taken to the device whole."""
    with mock.patch("torch.Tensor.pin_memory", lambda tensor: tensor.clone()):
        pinned = steps.make_batch().pin_memory()
    with fake_cuda():
        moved: Batch = pinned.to(steps.CUDA)
        tensors = [moved.images, moved.sizes, *(value for target in moved.targets for value in target.values())]
    check({tensor.device.type for tensor in tensors} == {"cuda"}, "a tensor of the batch stays behind")


def generators() -> None:
    """The generator of the GPU is saved and put back."""
    state, restored = torch.arange(16, dtype=torch.uint8), []
    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.get_rng_state", return_value=state),
        mock.patch("torch.cuda.set_rng_state", restored.append),
    ):
        restore_random_state(random_state())
    check(len(restored) == 1 and torch.equal(restored[0], state), "the generator's state is another one")


def deterministic() -> None:
    """`train.deterministic=true` sets every switch."""
    backend, kernels = torch.backends.cudnn, torch.backends.cuda
    before = backend.benchmark, backend.deterministic
    fused = {name: getattr(kernels, f"{name}_sdp_enabled")() for name in ("flash", "mem_efficient", "cudnn")}
    with mock.patch.dict(os.environ), mock.patch("torch.cuda.is_available", return_value=True):
        try:
            determinism.make_deterministic()
            check(torch.are_deterministic_algorithms_enabled(), "deterministic algorithms are off")
            check(not any(getattr(kernels, f"{name}_sdp_enabled")() for name in fused), "fused attention is on")
        finally:
            torch.use_deterministic_algorithms(False)
            backend.benchmark, backend.deterministic = before
            for name, was_enabled in fused.items():
                getattr(kernels, f"enable_{name}_sdp")(was_enabled)


def machine() -> None:
    """What is said and recorded of a machine with a GPU."""
    card = SimpleNamespace(name="Card", total_memory=24 << 30, major=8, minor=6)
    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.device_count", return_value=1),
        mock.patch("torch.cuda.get_device_properties", return_value=card),
        mock.patch("torch.cuda.nccl.version", return_value=(2, 27, 3)),
        mock.patch("torch.cuda.max_memory_allocated", return_value=3 << 30),
        mock.patch("torch.cuda.mem_get_info", return_value=(100 << 20, 24 << 30)),
        _silent("rfdetr_hwd.engine.shortage"),
    ):
        (device,) = describe_devices()
        expected = {"name": "Card", "memory_gib": 24.0, "compute_capability": "8.6", "native_bfloat16": True}
        check(device == expected, f"described as {device}")
        check(describe_environment()["libraries"]["nccl"] == "2.27.3", "nccl's version is not recorded")
        check(progress._memory_gib() == 3.0, "the memory in use is not said")
        check(is_out_of_memory(RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")), "a full GPU is not recognised")


def solver() -> None:
    """The solver of a step is tried, through its Triton module, before the first step and by `doctor`."""
    with pretended_cuda(), mock.patch.object(doctor, "say") as said:
        prepare_solver(steps.CUDA)
        doctor._say_solver()
    check(said.call_args.args == ("matching boxes: on the GPU",), f"doctor says {said.call_args.args}")


def process_group() -> None:
    """A rank takes its own GPU, and nccl for what is there."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    variables = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
    }
    start, chosen = torch.distributed.init_process_group, []

    def on_cpu(backend: str, **options: Any) -> None:
        chosen.append(backend)
        start("gloo", **options)

    with (
        mock.patch.dict(os.environ, variables),
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.device_count", return_value=1),
        mock.patch("torch.cuda.set_device", lambda device: chosen.append(str(device))),
        mock.patch("torch.distributed.init_process_group", on_cpu),
        joining.process_group() as device,
    ):
        check(device == torch.device("cuda", 0), f"the device is {device}")
    check(chosen == ["cuda:0", "cpu:gloo,cuda:nccl"], f"chosen were {chosen}")


class _Stream:
    """A stream that does nothing; an event, too."""

    def __init__(self, **_: Any) -> None: ...
    def wait_stream(self, _: Any) -> None: ...
    def record(self) -> None: ...
    def replay(self) -> None: ...
    def elapsed_time(self, _: Any) -> float:
        return 20.0


def benchmark_op() -> None:
    """`benchmark op` on a GPU: every pass is captured as a CUDA graph, in which the host may copy and read nothing."""
    modules, table = list(benchmark._modules(8, 16)), mock.Mock()

    @contextmanager
    def capture(traffic: Traffic) -> Iterator[None]:
        traffic.clear()
        yield
        refused = [*traffic.copies, *traffic.reads]
        check(not refused, f"not permitted when the stream is capturing: {refused}")

    with (
        fake_cuda() as traffic,
        mock.patch.multiple(benchmark, SHAPES=((8, 16, 12),), _modules=lambda *_: iter(modules), print_table=table),
        mock.patch.multiple(
            torch.cuda,
            Stream=_Stream,
            Event=_Stream,
            CUDAGraph=_Stream,
            graph=lambda graph, stream: capture(traffic),
            stream=lambda stream: nullcontext(),
            current_stream=_Stream,
            synchronize=lambda: None,
            get_device_name=lambda device: "Card",
        ),
        redirect_stdout(io.StringIO()) as said,
    ):
        benchmark.run_op(batch=2, rounds=1, out=None)
    check(said.getvalue().startswith("machine: Card"), f"it says {said.getvalue()}")
    rows = {row[0]: row[1] for row in table.call_args.args[2]}
    check(rows == {name: "1.00" for name, _ in modules}, f"milliseconds by name: {rows}")


@contextmanager
def _silent(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


PARTS = (
    Part("training step, hwd at the projector", "run", lambda: step_without_data("hwd", "projector")),
    Part("training step, hwd at the stem", "run", lambda: step_without_data("hwd", "stem")),
    Part("forward pass and decoding, every downsampler", "run", forward_without_data),
    Part("benchmark op, captured as CUDA graphs", "run", benchmark_op),
    Part("training step with numbers", "patched", step_with_data),
    Part("evaluation and prediction", "patched", evaluation_and_prediction),
    Part("probes of the memory", "patched", probes),
    Part("batches: pinned, then moved", "patched", batches),
    Part("random generators", "patched", generators),
    Part("train.deterministic", "patched", deterministic),
    Part("what is said of the machine", "patched", machine),
    Part("assignment solver", "patched", solver),
    Part("process group", "patched", process_group),
)
