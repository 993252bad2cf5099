"""One process or many: rank, reduction, gathering. Without a launcher there is one process, and nothing is initialised.

`torchrun` is the launcher; NCCL carries GPUs, gloo carries CPUs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def rank() -> int:
    """Return this process's number, 0 without a launcher."""
    return dist.get_rank() if _is_initialised() else 0


def world_size() -> int:
    """Return the number of processes, 1 without a launcher."""
    return dist.get_world_size() if _is_initialised() else 1


def is_main() -> bool:
    """Return whether this process writes files and prints."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[torch.device]:
    """Join the launcher's process group, if there is one, and yield the device of this process."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield device
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def distribute(network: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a network so that its gradients are averaged over the processes; one process needs no wrapper."""
    if world_size() == 1:
        return network
    return DistributedDataParallel(network, device_ids=[device.index] if device.type == "cuda" else None)


@contextmanager
def gradient_sync(network: nn.Module, is_last: bool) -> Iterator[None]:
    """Average gradients over the processes in the last backward pass of an update, and in no other."""
    skip = isinstance(network, DistributedDataParallel) and not is_last
    with network.no_sync() if skip and isinstance(network, DistributedDataParallel) else nullcontext():
        yield


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def gather_objects(value: Any) -> list[Any]:
    """Return the value of every process, in order of rank, on rank 0; the others get their own alone."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, gathered)
    return gathered if gathered is not None else [value]


def broadcast_object(value: Any) -> Any:
    """Return the value of rank 0 on every process."""
    if world_size() == 1:
        return value
    shared = [value]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        dist.barrier()


def _is_initialised() -> bool:
    return dist.is_available() and dist.is_initialized()
