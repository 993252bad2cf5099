"""One process or many: rank, reduction, gathering. Without a launcher there is one process, and nothing is initialised.

`torchrun` is the launcher; NCCL carries tensors of GPUs, gloo those of CPUs and every small agreement.

Every exchange begins with a small agreement, in which a failed rank reports its failure. So no rank enters an NCCL
message that another rank will not take part in.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rfdetr_hwd.errors import Interrupted, UserError
from rfdetr_hwd.runtime.memory import OutOfMemoryError, noting_shortage

_BUCKET_ELEMENTS = 1 << 23
"""Elements reduced in one message: 32 MiB of float32."""

_FAREWELL = timedelta(seconds=10)
"""Time that a failed rank waits for the others to learn of it. They may be busy."""

_LOST = ("Connection closed by peer", "Connection reset by peer", "gloo/transport", "Broken pipe", "Socket Timeout")
"""Messages of gloo when another process has died."""


class RankError(UserError):
    """The ranks of a run cannot work together."""


class OtherRankError(RankError):
    """Another rank failed or died, so this rank cannot continue."""


class SharedError(Exception):
    """An error on one or more ranks that every rank knows of, so that all can still act together.

    Attributes:
        original: The error that this rank raises in the end: its own, or an `OtherRankError` that names the rank.
    """

    def __init__(self, original: Exception) -> None:
        super().__init__(str(original))
        self.original = original


def rank() -> int:
    """Return this process's number, 0 without a launcher."""
    return dist.get_rank() if _is_initialised() else 0


def world_size() -> int:
    """Return the number of processes, 1 without a launcher."""
    return dist.get_world_size() if _is_initialised() else 1


def is_main() -> bool:
    """Return whether this process writes files and prints."""
    return rank() == 0


def agree(error: Exception | None) -> None:
    """Share the errors of all ranks; every rank calls it in the same place.

    Raises:
        SharedError: A rank has one.
    """
    failed = max_over_ranks(rank() + 1 if error is not None else 0)
    if failed:
        raise SharedError(error or _failure_of(failed - 1))


def give_up(error: BaseException, status: int) -> None:
    """Tell the other ranks in their next agreement, if it comes soon, that this rank ends.

    Args:
        error: The reason.
        status: Exit status. The status of a stop request is passed on.
    """
    is_asked = isinstance(error, Interrupted)
    told = torch.tensor([0 if is_asked else rank() + 1, status if is_asked else 0, 0])
    with suppress(Exception):  # they have ended, or do not come
        work = dist.all_reduce(told, op=dist.ReduceOp.MAX, async_op=True)
        if work is not None:
            work.wait(_FAREWELL)


def outlast() -> None:
    """Wait a little until the failed rank has ended: launchers name the process that ends first as the cause."""
    with suppress(Exception):  # it has ended
        for _ in range(2):  # it may take part in one, as it gives up
            work = dist.all_reduce(torch.zeros(3, dtype=torch.int64), op=dist.ReduceOp.MAX, async_op=True)
            if work is not None:
                work.wait(_FAREWELL)


def _meet(value: int = 0) -> int:
    """Return the largest value of the ranks, once every rank is here. It is a CPU message: no device waits for it.

    Raises:
        OtherRankError: A rank has failed, or died.
        Interrupted: A rank was asked to stop, and has left.
    """
    shared = torch.tensor([0, 0, value])
    with _lost_explained():
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
    failed, status, largest = shared.tolist()
    if failed:
        raise _failure_of(failed - 1)
    if status:
        raise Interrupted(status)
    return int(largest)


def _failure_of(number: int) -> OtherRankError:
    return OtherRankError(f"rank {rank()} stops: rank {number} failed, see its own error")


@contextmanager
def _lost_explained() -> Iterator[None]:
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        if isinstance(error, dist.DistError) or any(word in str(error) for word in _LOST):
            reason = str(error).splitlines()[0]
            raise OtherRankError(f"rank {rank()} lost the other ranks and stops: {reason}") from None
        raise


def broadcast_weights(network: nn.Module) -> None:
    """Give every process the weights and buffers of rank 0."""
    if world_size() > 1:
        _meet()
        with _lost_explained():
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.detach(), src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over the processes, a few large messages a step.

    `DistributedDataParallel` would do it within the backward pass, where a process that has run out of memory cannot
    take part: the others would wait for it. Here every process first says whether its passes succeeded, and whether it
    has room for the messages. The cost: these messages do not overlap with the last backward pass.

    Raises:
        OutOfMemoryError: A rank has no room for the messages.
    """
    if world_size() == 1:
        return
    # Agree on which parameters take part.
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([parameter.grad is not None for parameter in learned], dtype=torch.int32)
    with _lost_explained():
        dist.all_reduce(used, op=dist.ReduceOp.MAX)
    # Make room for the messages, before the first of them is sent.
    with noting_shortage() as shortage:
        for parameter, is_used in zip(learned, used.tolist(), strict=True):
            if is_used and parameter.grad is None:  # unused on this rank alone
                parameter.grad = torch.zeros_like(parameter)
        buckets = _buckets([parameter.grad for parameter in learned if parameter.grad is not None])
        room = _room_for(buckets)
    if max_over_ranks(int(shortage.is_out)):
        raise OutOfMemoryError
    # Average the buckets.
    with _lost_explained():
        for bucket in buckets:
            flat = room[: _num_elements(bucket)]
            torch.cat([tensor.flatten() for tensor in bucket], out=flat)
            dist.all_reduce(flat)
            parts = flat.div_(world_size()).split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return the gradients in groups of about `_BUCKET_ELEMENTS`."""
    buckets: list[list[Tensor]] = []
    for gradient in gradients:
        if not buckets or _num_elements(buckets[-1]) >= _BUCKET_ELEMENTS:
            buckets.append([])
        buckets[-1].append(gradient)
    return buckets


def _room_for(buckets: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return a buffer that fits the largest bucket. All buckets share it."""
    gradients = [gradient for bucket in buckets for gradient in bucket] or [torch.empty(0)]
    dtype = functools.reduce(torch.promote_types, (gradient.dtype for gradient in gradients))
    return gradients[0].new_empty(max(map(_num_elements, buckets), default=0), dtype=dtype)


def _num_elements(bucket: Sequence[Tensor]) -> int:
    return sum(tensor.numel() for tensor in bucket)


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes."""
    if world_size() > 1:
        _meet()
        values = values.clone()
        with _lost_explained():
            dist.all_reduce(values)
    return values


def max_over_ranks(value: int) -> int:
    """Return the largest value of the processes. It is a CPU message: no device waits for it."""
    return _meet(value) if world_size() > 1 else value


def gather_objects(value: Any) -> list[Any]:
    """Return the value of every process, in order of rank, on rank 0; the others get their own alone."""
    if world_size() == 1:
        return [value]
    _meet()
    gathered: list[Any] | None = [None] * world_size() if is_main() else None
    with _lost_explained():
        dist.gather_object(value, gathered)
    return gathered if gathered is not None else [value]


def all_gather_objects(value: Any) -> list[Any]:
    """Return the value of every process, in order of rank, on every process."""
    if world_size() == 1:
        return [value]
    _meet()
    gathered: list[Any] = [None] * world_size()
    with _lost_explained():
        dist.all_gather_object(gathered, value)
    return gathered


def broadcast_object(value: Any) -> Any:
    """Return the value of rank 0 on every process."""
    if world_size() == 1:
        return value
    _meet()
    shared = [value]
    with _lost_explained():
        dist.broadcast_object_list(shared, src=0)
    return shared[0]


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        _meet()


def _is_initialised() -> bool:
    return dist.is_available() and dist.is_initialized()
