"""Join the other ranks, and leave them: together when all are done, at once when one fails.

Destroying a process group waits for the other ranks with NCCL, and these may wait for this one. A rank that fails
therefore prints why, tells the others where they expect to hear from it, and ends its process.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from rfdetr_hwd.errors import STOP_SIGNALS
from rfdetr_hwd.runtime.distributed import OtherRankError, RankError, all_gather_objects, barrier, give_up, outlast
from rfdetr_hwd.runtime.heap import keep_freed_memory
from rfdetr_hwd.runtime.last_words import say_last_words
from rfdetr_hwd.runtime.launch import Place, find_place, is_under_torchrun, leftover, num_nodes, num_restarts

_TIMEOUT = timedelta(hours=2)
"""Time that a process waits for the others: rank 0 computes the metrics of a large split meanwhile."""
_JOINING = timedelta(minutes=10)
"""Time that a process waits for the others to start."""

logger = logging.getLogger(__name__)


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Join the launcher's process group, if there is one, and yield the device of this process.

    In a process group, an error that leaves the context is printed and ends the process at once. On a CPU, this process
    keeps freed memory from now on.

    Raises:
        ConfigError: The launcher variables in the environment are invalid.
        RankError: The other ranks cannot be reached.
    """
    if not torch.cuda.is_available():
        keep_freed_memory()
    # A single process needs no group.
    place = find_place()
    if place is None:
        if leftover():
            logger.warning("%s", leftover())
        yield torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        return
    # Join, and leave together: a rank that fails tells the others.
    _join(place)
    try:
        device = find_device(place.local_rank)
        _check_kinds(device)
        yield device
        barrier()  # a failure of another rank is raised here
    except BaseException as error:
        _leave(error)
    dist.destroy_process_group()


def find_device(local_rank: int) -> torch.device:
    """Return the device of a rank: a GPU for each rank of a machine that has GPUs.

    Raises:
        RankError: The machine has fewer GPUs than ranks.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise RankError(
            f"rank {local_rank} of this machine has no GPU: {torch.cuda.device_count()} are visible. Start at "
            "most that many ranks on a machine (torchrun --nproc-per-node), or check CUDA_VISIBLE_DEVICES"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _check_kinds(device: torch.device) -> None:
    """Refuse ranks some of which have a GPU and some have none: their messages would not match."""
    kinds = all_gather_objects(device.type)
    without = [number for number, kind in enumerate(kinds) if kind != "cuda"]
    if without and len(without) < len(kinds):
        raise RankError(f"rank {', '.join(map(str, without))} of {len(kinds)} has no GPU, but the others have one")


def _join(place: Place) -> None:
    """Find the other ranks and make the process group.

    Raises:
        RankError: They cannot be found.
    """
    if not is_under_torchrun():
        logger.info(
            "rank %d of %d, as RANK and WORLD_SIZE in the environment say: waiting for the others at %s:%d",
            *(place.rank, place.world_size, place.host, place.port),
        )
    try:
        store = _open_store(place)
        if num_nodes() == 1:
            # The launcher may keep its store over restarts: ranks would find the entries of dead ones.
            # On several nodes the count differs, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives each attempt its own.
            store = dist.PrefixStore(f"attempt {num_restarts()}", store)  # type: ignore[attr-defined]
        _await_all(store, place)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.world_size, timeout=_TIMEOUT)
    except (dist.DistError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        remedy = "start with torchrun, or for a single process unset RANK and WORLD_SIZE"
        if "EADDRINUSE" in reason or "in use" in reason:
            remedy = (
                "another program uses this port: set another port, or use torchrun --standalone, which finds a free one"
            )
        raise RankError(
            f"rank {place.rank} of {place.world_size} cannot join the others at {place.host}:{place.port} "
            f"(MASTER_ADDR, MASTER_PORT): {reason}. {remedy[0].upper()}{remedy[1:]}"
        ) from None


def _open_store(place: Place) -> Any:
    """Return the store that the ranks find each other in; rank 0 serves it, where torchrun does not.

    Raises:
        RuntimeError: It cannot be served, or does not answer.
    """
    is_served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True)
    is_host = place.rank == 0 and not is_served
    if not is_host:
        _await(lambda: _answers(place), f"no answer within {_JOINING.total_seconds() / 60:.0f} minutes")
    return dist.TCPStore(  # type: ignore[attr-defined]
        place.host, place.port, place.world_size, is_host, _JOINING, wait_for_workers=False, multi_tenant=True
    )


def _answers(place: Place) -> bool:
    """Return whether something listens there. torch's own wait ignores signals and prints its stack."""
    with suppress(OSError), socket.create_connection((place.host, place.port), timeout=1):
        return True
    return False


def _await_all(store: Any, place: Place) -> None:
    """Wait until every rank has joined.

    Raises:
        RuntimeError: Some have not joined.
    """
    store.set(f"rank {place.rank}", "here")
    for number in range(place.world_size):
        _await(
            partial(store.check, [f"rank {number}"]),
            f"rank {number} did not join within {_JOINING.total_seconds() / 60:.0f} minutes",
        )


def _await(has_come: Callable[[], bool], otherwise: str) -> None:
    """Poll for something, so that signals are answered meanwhile.

    Raises:
        RuntimeError: It did not happen in time.
    """
    end = time.monotonic() + _JOINING.total_seconds()
    while not has_come():
        if time.monotonic() >= end:
            raise RuntimeError(otherwise)
        time.sleep(0.1)


def _leave(error: BaseException) -> NoReturn:
    """Print why this rank ends, tell the others, and end this process and its children."""
    status = 1
    try:
        # Say why, undisturbed by the signals that now come.
        with suppress(ValueError):  # signals belong to the main thread
            for number in STOP_SIGNALS:  # of a launcher that has seen another rank end
                signal.signal(number, signal.SIG_IGN)
        status = say_last_words(error)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        logging.shutdown()
    except Exception:
        pass  # the terminal may be gone
    finally:
        # Tell the others, and end without waiting for threads.
        if isinstance(error, OtherRankError):
            outlast()
        else:
            give_up(error, status)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(status)
