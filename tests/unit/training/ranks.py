"""Ranks as forked processes, for tests of how they meet: no command, no model, no launcher."""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist

from rfdetr_hwd.runtime.last_words import say_last_words
from rfdetr_hwd.runtime.process_group import process_group


def run_ranks(number: int, body: Callable[[], None], folder: Path, is_destroyed: bool = False) -> list[tuple[int, str]]:
    """Run a function on each of some ranks, in their process group; return exit status and output of each.

    Unless `is_destroyed`, whoever destroys the process group waits for ten minutes, as NCCL does while another rank
    waits for this one.
    """
    context = multiprocessing.get_context("fork")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    files = [folder / f"rank-{rank}.txt" for rank in range(number)]
    processes = [
        context.Process(target=_run, args=(rank, number, port, body, files[rank], is_destroyed))
        for rank in range(number)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(120)
        return [
            (p.exitcode if p.exitcode is not None else -1, f.read_text()) for p, f in zip(processes, files, strict=True)
        ]
    finally:
        for process in processes:
            process.kill()


def _run(rank: int, number: int, port: int, body: Callable[[], None], file: Path, is_destroyed: bool) -> None:
    with file.open("w") as output:
        for descriptor in (1, 2):
            os.dup2(output.fileno(), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    for name in [name for name in os.environ if name.startswith("TORCHELASTIC")]:
        del os.environ[name]
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(number), "LOCAL_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    if not is_destroyed:
        dist.destroy_process_group = _never_returns
    status = 0
    try:
        with process_group():
            body()
    except BaseException as error:
        status = say_last_words(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _never_returns() -> None:
    print("the process group is destroyed", flush=True)
    time.sleep(600)
