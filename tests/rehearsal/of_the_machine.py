"""Parts of the rehearsal that are about the machine: generators, switches, what is said of it, solver, ranks."""

import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from rfdetr_hwd.amp import describe_precision
from rfdetr_hwd.cli import doctor, experiment
from rfdetr_hwd.cli.benchmark import model as benchmark
from rfdetr_hwd.export.speed import find_best_batch
from rfdetr_hwd.runtime import determinism, gpu_clock, timing
from rfdetr_hwd.runtime import process_group as joining
from rfdetr_hwd.runtime.distributed import RankError
from rfdetr_hwd.runtime.environment import describe_devices, describe_environment
from rfdetr_hwd.runtime.memory import OutOfMemoryError, is_out_of_memory
from rfdetr_hwd.runtime.random_state import random_state, restore_random_state
from rfdetr_hwd.training import speed, step_profile
from rfdetr_hwd.training.assignment import prepare_solver
from tests.rehearsal import steps
from tests.rehearsal.checks import check, silent
from tests.rehearsal.pretended_device import pretended_cuda


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
        silent("rfdetr_hwd"),
    ):
        (device,) = describe_devices()
        expected = {"name": "Card", "memory_gib": 24.0, "compute_capability": "8.6", "native_bfloat16": True}
        check(device == expected, f"described as {device}")
        check(describe_environment()["libraries"]["nccl"] == "2.27.3", "nccl's version is not recorded")
        check(speed.peak_memory() == 3 * 2**30, "the memory in use is not said")
        check(is_out_of_memory(RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")), "a full GPU is not recognised")


def workers() -> None:
    """The workers of an experiment are spread over the GPUs."""
    with (
        mock.patch.dict(os.environ),
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.device_count", return_value=2),
    ):
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        check(experiment.find_devices(2) == ["0", "1"], "the GPUs are not shared out")
        os.environ["CUDA_VISIBLE_DEVICES"] = "4,7"
        check(experiment.find_devices(2) == ["4", "7"], "hidden GPUs are used")
        check(experiment.find_devices(1) == [], "a single worker is kept from a GPU")


def latency() -> None:
    """A pass is timed until the GPU is done."""
    order: list[object] = []
    with mock.patch("torch.cuda.synchronize", order.append):
        timing.milliseconds(lambda: order.append("pass"), steps.CUDA, calls=2)
    check(order == [steps.CUDA, "pass", "pass", steps.CUDA], "the GPU may still compute")


def benchmark_device() -> None:
    """`benchmark model` runs on the GPU, and reads the clock of that card."""
    card = SimpleNamespace(uuid="12-ab")
    with (
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.get_device_properties", return_value=card),
        mock.patch("subprocess.Popen", side_effect=FileNotFoundError) as started,
    ):
        device = benchmark._find_device(None)
        with gpu_clock.reading_gpu_clock(device) as clock:
            pass
    check(device.type == "cuda", f"the device is {device}")
    check("--id=GPU-12-ab" in started.call_args.args[0], "another card is read")
    check(clock is not None and "not read" in clock.describe(), "nvidia-smi is missed")


def benchmark_memory() -> None:
    """Where a batch of a benchmark does not fit, its memory is given back before the next one is tried."""

    def prepare(size: int) -> Any:
        return mock.Mock(side_effect=torch.OutOfMemoryError("out of memory") if size > 1 else None)

    learner, batch = SimpleNamespace(network=torch.nn.Linear(1, 1)), SimpleNamespace(image_ids=(1, 2))
    with (
        mock.patch("torch.cuda.empty_cache") as emptied,
        mock.patch.object(step_profile, "_make", side_effect=OutOfMemoryError),
    ):
        best = find_best_batch(prepare, torch.device("cpu"))
        check((best, emptied.call_count) == (1, 1), "the memory of a batch is kept")
        doubled: Any = step_profile._try_doubled(batch, learner, None, 1, 1.0)  # type: ignore[arg-type]
        check((doubled, emptied.call_count) == ((2, None), 2), "the memory of a step is kept")


def precision() -> None:
    """A run on a GPU records that it computes in bfloat16, and in whole float32 where it does not."""
    with pretended_cuda():
        said = describe_precision(steps.ARGS, steps.CUDA)
    expected = {"precision": "bfloat16 mixed", "float32_matmul": "ieee", "float32_conv": "ieee"}
    check(said == expected, f"it says {said}")


def solver() -> None:
    """The solver of a step is tried, through its Triton module, before the first step and by `doctor`."""
    with pretended_cuda(), mock.patch.object(doctor, "say") as said:
        prepare_solver(steps.CUDA)
        doctor._say_solver()
    check(said.call_args.args == ("box matching: on the GPU",), f"doctor says {said.call_args.args}")


def process_group() -> None:
    """Two ranks take a GPU each and nccl for what is there; a third has no GPU."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    start, chosen = torch.distributed.init_process_group, []

    def on_cpu(backend: str, **options: Any) -> None:
        chosen.append(backend)
        start("gloo", **options)

    with (
        mock.patch.dict(os.environ, {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}),
        mock.patch("torch.cuda.is_available", return_value=True),
        mock.patch("torch.cuda.device_count", return_value=2),
        mock.patch("torch.cuda.set_device", lambda device: chosen.append(str(device))),
        mock.patch("torch.distributed.init_process_group", on_cpu),
        mock.patch.multiple(joining, _leave=_raise, _JOINING=timedelta(minutes=1), _TIMEOUT=timedelta(minutes=1)),
        silent("rfdetr_hwd"),
    ):
        with _rank_in_a_process(1):
            check(_device_of(RANK="0", LOCAL_RANK="0") == torch.device("cuda", 0), "rank 0 has another device")
        check(chosen == ["cpu:gloo,cuda:nccl", "cuda:0"], f"chosen were {chosen}")
        check(_device_of(WORLD_SIZE="1") == torch.device("cuda", 0), "a process on its own has another device")
        try:
            joining.find_device(2)
        except RankError as error:
            check("rank 2 of this machine has no GPU" in str(error), f"a third rank is told {error}")
        else:
            check(False, "a third rank takes a GPU that is not there")


def _device_of(**variables: str) -> torch.device:
    with mock.patch.dict(os.environ, variables), joining.process_group() as device:
        return device


def _raise(error: BaseException) -> None:
    """Stand in for what ends the process."""
    raise error


@contextmanager
def _rank_in_a_process(number: int) -> Iterator[None]:
    """Let another rank of this machine meet this one."""

    def take_part() -> None:
        _device_of(RANK=str(number), LOCAL_RANK=str(number))

    other = multiprocessing.get_context("fork").Process(target=take_part)
    other.start()
    try:
        yield
        other.join(60)
        check(other.exitcode == 0, f"rank {number} ends with {other.exitcode}")
    finally:
        other.kill()
        other.join()
