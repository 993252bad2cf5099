"""One process or many: rank, reduction, gathering. Without a launcher there is one process, and nothing is initialised.

`torchrun` is the launcher; NCCL carries tensors of GPUs, gloo those of CPUs and every small agreement.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rfdetr_hwd.errors import UserError

_BUCKET_ELEMENTS = 1 << 23
"""Elements that are reduced in one message: 32 MiB of float32."""


_PATIENCE = timedelta(hours=2)
"""Time that a process waits for the others: rank 0 computes the figures of a large split meanwhile."""

_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo/transport", "Broken pipe", "Socket Timeout")
"""What gloo says when another process has died."""


class RankError(UserError):
    """Another process of the run has gone, so that this one cannot go on."""


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
    if device.type == "cuda" and local_rank >= torch.cuda.device_count():
        raise RankError(f"rank {local_rank} of this machine has no GPU: {torch.cuda.device_count()} are visible")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield device
        return
    store, number, world = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
    if int(os.environ.get("GROUP_WORLD_SIZE", 1)) == 1:
        # The launcher may keep its store over restarts: ranks would look for each other where the dead ones were. On
        # several nodes the count differs, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives each attempt its own store.
        store = dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=world, timeout=_PATIENCE)
    try:
        yield device
    except (dist.DistError, RuntimeError) as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST):
            raise RankError(f"rank {rank()} lost the other processes and stops: {str(error).splitlines()[0]}") from None
        raise
    finally:
        dist.destroy_process_group()


def broadcast_weights(network: nn.Module) -> None:
    """Give every process the weights and buffers of rank 0."""
    if world_size() > 1:
        for tensor in (*network.parameters(), *network.buffers()):
            dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over the processes, a few large messages an update.

    `DistributedDataParallel` would do it within the backward pass, where a process that has run out of memory cannot
    take part: the others would wait for it. Here every process first says whether its passes succeeded. The price is
    that the messages do not overlap with the last backward pass.
    """
    if world_size() == 1:
        return
    bucket: list[Tensor] = []
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([parameter.grad is not None for parameter in learned], dtype=torch.int32)
    dist.all_reduce(used, op=dist.ReduceOp.MAX)
    for parameter, is_used in zip(learned, used.tolist(), strict=True):
        if is_used and parameter.grad is None:  # unused on this rank alone
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in learned if parameter.grad is not None]
    for index, gradient in enumerate(gradients):
        bucket.append(gradient)
        if index == len(gradients) - 1 or sum(tensor.numel() for tensor in bucket) >= _BUCKET_ELEMENTS:
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(flat)
            parts = (flat / world_size()).split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))
            bucket = []


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def max_over_ranks(value: int) -> int:
    """Return the largest value of the processes. It is a CPU message: no device waits for it."""
    if world_size() == 1:
        return value
    shared = torch.tensor(value)
    dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    return int(shared)


def gather_objects(value: Any) -> list[Any]:
    """Return the value of every process, in order of rank, on rank 0; the others get their own alone."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, gathered)
    return gathered if gathered is not None else [value]


def all_gather_objects(value: Any) -> list[Any]:
    """Return the value of every process, in order of rank, on every process."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


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
