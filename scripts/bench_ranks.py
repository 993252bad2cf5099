"""Time training steps of several ranks on one machine, with gradients averaged during the backward pass and after it.

python scripts/bench_ranks.py --out benchmarks

The two ways alternate from step to step in the same processes. Also counted: the small messages of a step, and how
long one takes once every rank is there. With `--ddp` also how long a rank waits under `DistributedDataParallel` for one
whose backward pass has failed; it ends with the time limit of the process group. The last line is a summary as JSON.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TIME_LIMIT_S = 20
"""Time limit of the process group of the trial of `DistributedDataParallel`."""


def main() -> None:
    """Measure each number of ranks, in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="directory of the dated JSON file")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--steps", type=int, default=20, help="measured steps of each way")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4, help="images of a rank")
    parser.add_argument("--ddp", action="store_true", help="also try DistributedDataParallel with a rank that fails")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        {"steps": measure_steps, "ddp": measure_ddp}[arguments.child](arguments)
        return
    measured = {str(number): run_ranks("steps", number, arguments) for number in arguments.ranks}
    waited = run_ranks("ddp", 2, arguments)["waited_s"] if arguments.ddp else None
    write(measured, waited, arguments)


def run_ranks(child: str, number: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one part on some ranks and return what rank 0 prints."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = [f"--{name}={getattr(arguments, name)}" for name in ("steps", "resolution", "batch")]
    processes = []
    for rank in range(number):
        variables = {"RANK": rank, "WORLD_SIZE": number, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": number}
        variables |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        command = [sys.executable, __file__, f"--child={child}", *options]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"a rank failed: {[process.returncode for process in processes]}")
    measured: dict[str, Any] = json.loads(outputs[0].splitlines()[-1])
    print(child, number, json.dumps(measured), flush=True)
    return measured


def measure_steps(arguments: argparse.Namespace) -> None:
    """Make steps in both ways, in turns; rank 0 prints the medians."""
    import torch
    import torch.distributed as dist

    from rfdetr_hwd.runtime.distributed import is_main, share
    from rfdetr_hwd.runtime.process_group import process_group

    with process_group() as device:
        step, averager, sizes = build(arguments, device)
        gather, calls = dist.all_gather, []
        dist.all_gather = lambda *args, **options: (calls.append(1), gather(*args, **options))[1]
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for number in range(2 * arguments.steps + 4):
            averager.is_overlapping = number % 2 == 0
            share(0)  # all ranks begin together
            calls.clear()
            seconds[averager.is_overlapping].append(timed(step, device))
        messages = len(calls)
        agreement = [timed(lambda: share(0), device) for _ in range(50)]
        flat = torch.zeros(sum(sizes), device=device)
        alone = [timed(lambda: dist.all_reduce(flat), device) for _ in range(5)]
        during, after = (statistics.median(seconds[is_overlapping][2:]) for is_overlapping in (True, False))
        result = {
            "step_s_during": during,
            "step_s_after": after,
            "ratio": during / after,
            "gradient_mb": 4 * sum(sizes) / 1e6,
            "all_reduce_alone_s": statistics.median(alone),
            "small_messages_per_step": messages,
            "small_message_ms": 1000 * statistics.median(agreement),
        }
        if is_main():
            print(json.dumps({key: round(value, 4) for key, value in result.items()}), flush=True)


def build(arguments: argparse.Namespace, device: Any) -> tuple[Callable[[], Any], Any, list[int]]:
    """Return a function that makes a step of RF-DETR Nano, its averager, and the sizes of the gradients."""
    import torch

    from rfdetr_hwd.config.schema import DownsampleSection, ModelSection
    from rfdetr_hwd.data.batch import Batch, PackedTargets
    from rfdetr_hwd.model.backward_order import backward_order
    from rfdetr_hwd.model.build import build_model
    from rfdetr_hwd.model.rfdetr import DetectionLoss
    from rfdetr_hwd.runtime.gradient_averaging import GradientAverager
    from rfdetr_hwd.training.optimizer import build_adamw
    from rfdetr_hwd.training.train_step import TrainStep

    torch.manual_seed(0)
    side, size = arguments.resolution, arguments.batch
    section = ModelSection(resolution=side, levels=["P4", "P5"], pretrain_weights=None, num_queries=30, group_detr=5)
    model = build_model(section, DownsampleSection(), ["a", "b", "c"])
    network = model.network.to(device).train()
    learned = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    optimizer = build_adamw([(name, parameter, 1e-5, 0.0) for name, parameter in learned])
    averager = GradientAverager(backward_order(network))
    criterion, args = DetectionLoss(model.stock).to(device), SimpleNamespace(amp=True)
    step = TrainStep(network, criterion, optimizer, args, 0.1, averager)
    target = {"labels": torch.zeros(4, dtype=torch.int64), "boxes": torch.full((4, 4), 0.4)}
    targets = PackedTargets.pack([target] * size)
    batch = Batch(torch.rand(size, 3, side, side), targets, tuple(range(size)), torch.zeros(size, 2, 2))
    return lambda: step([batch]), averager, [parameter.numel() for _, parameter in learned]


def timed(action: Callable[[], object], device: Any) -> float:
    """Return the seconds of an action, until the device has finished it."""
    from rfdetr_hwd.runtime.timing import wait_for

    begin = time.perf_counter()
    action()
    wait_for(device)
    return time.perf_counter() - begin


def measure_ddp(arguments: argparse.Namespace) -> None:
    """Let the backward pass of rank 1 fail under DDP; rank 0 prints how long it waits for it."""
    import torch
    import torch.distributed as dist
    from torch import nn

    dist.init_process_group("gloo", timeout=timedelta(seconds=TIME_LIMIT_S))
    layers = [nn.Linear(512, 512) for _ in range(30)]
    if dist.get_rank() == 1:
        layers[2].weight.register_hook(fail)  # some buckets are sent by then
    wrapped, begin = nn.parallel.DistributedDataParallel(nn.Sequential(*layers), bucket_cap_mb=1), time.perf_counter()
    try:
        wrapped(torch.rand(2, 512)).sum().backward()
    except RuntimeError as error:
        print(json.dumps({"waited_s": round(time.perf_counter() - begin, 1), "error": str(error)[:200]}), flush=True)
    if dist.get_rank() == 1:
        time.sleep(TIME_LIMIT_S + 5)  # a process that handles its error, and lives
    os._exit(0)


def fail(_: Any) -> None:
    """Fail as a pass that is out of memory does."""
    raise RuntimeError("out of memory")


def write(measured: dict[str, Any], waited: float | None, arguments: argparse.Namespace) -> None:
    """Write the dated file and print the summary."""
    import torch

    from rfdetr_hwd.runtime.environment import describe_environment

    on_gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()} CPU, {os.cpu_count()} cores"
    settings = {key: getattr(arguments, key) for key in ("steps", "resolution", "batch")}
    given = {"ranks": " ".join(map(str, arguments.ranks)), **settings}
    options = [f"--{key} {value}" for key, value in given.items()]
    content = {
        "command": " ".join(["python scripts/bench_ranks.py", *options, *(["--ddp"] if arguments.ddp else [])]),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": name,
        "environment": describe_environment(),
        "settings": settings,
        "ranks": measured,
        "ddp_waited_s": waited,
        "ddp_time_limit_s": TIME_LIMIT_S if waited is not None else None,
    }
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        suffix = "-cuda" if on_gpu else ""
        path = arguments.out / f"ranks-{content['date']}{suffix}.json"
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({number: {"ratio": ranks["ratio"]} for number, ranks in measured.items()}))


if __name__ == "__main__":
    main()
