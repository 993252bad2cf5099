"""One process or many: rank, reduction, gathering. Without a launcher there is one process, and nothing is initialised.

`torchrun` is the launcher; NCCL carries tensors of GPUs, gloo those of CPUs and every small agreement.

Every exchange begins with a small agreement, in which a failed rank reports its failure. So no rank enters an NCCL
message that another rank will not take part in.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rfdetr_hwd.errors import Interrupted, UserError

_SLOTS = 8
"""Numbers that a rank shares in an agreement. The first two tell of a rank that gives up."""

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


def share(*values: int) -> list[tuple[int, ...]]:
    """Return some whole numbers of every rank, in order of rank. Every rank calls it in the same place.

    It is one small CPU message: no device waits for it.

    Args:
        values: At most 6, of at most 63 bits.

    Raises:
        OtherRankError: A rank has failed, or died.
        Interrupted: A rank was asked to stop, and has left.
    """
    if world_size() == 1:
        return [values]
    own = torch.tensor([0, 0, *values, *[0] * (_SLOTS - 2 - len(values))])
    ranks = torch.empty(world_size(), _SLOTS, dtype=torch.int64)
    with lost_explained():
        dist.all_gather(list(ranks), own)
    failed, status = ranks[:, :2].amax(0).tolist()
    if failed:
        raise _failure_of(failed - 1)
    if status:
        raise Interrupted(status)
    return [tuple(row) for row in ranks[:, 2 : 2 + len(values)].tolist()]


def agree(error: Exception | None) -> None:
    """Share the errors of all ranks; every rank calls it in the same place.

    Raises:
        SharedError: A rank has one.
    """
    raise_shared(error, [bool(failed) for (failed,) in share(int(error is not None))])


def raise_shared(error: Exception | None, has_failed: Sequence[bool]) -> None:
    """Raise on every rank if any has failed.

    Args:
        error: This rank's own, if it has one.
        has_failed: For each rank, the same on all.

    Raises:
        SharedError: A rank has failed.
    """
    if any(has_failed):
        raise SharedError(error or _failure_of(list(has_failed).index(True)))


def give_up(error: BaseException, status: int) -> None:
    """Tell the other ranks in their next agreement, if it comes soon, that this rank ends.

    Args:
        error: The reason.
        status: Exit status. The status of a stop request is passed on.
    """
    is_asked = isinstance(error, Interrupted)
    _take_part([0 if is_asked else rank() + 1, status if is_asked else 0])


def outlast() -> None:
    """Wait a little until the failed rank has ended: launchers name the process that ends first as the cause."""
    for _ in range(2):  # it may take part in one, as it gives up
        if not _take_part([0, 0]):
            return


def _take_part(head: list[int]) -> bool:
    """Take part in the next agreement of the others, if it comes soon; return whether it came."""
    own = torch.tensor([*head, *[0] * (_SLOTS - 2)])
    with suppress(Exception):  # they have ended, or do not come
        work = dist.all_gather([torch.empty_like(own) for _ in range(world_size())], own, async_op=True)
        if work is not None:
            work.wait(_FAREWELL)
        return True
    return False


def _failure_of(number: int) -> OtherRankError:
    return OtherRankError(f"rank {rank()} stops: rank {number} failed, see its own error")


@contextmanager
def lost_explained() -> Iterator[None]:
    """Turn the messages of a lost connection into one that names the cause.

    Raises:
        OtherRankError: Another rank died.
    """
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
        share()
        with lost_explained():
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.detach(), src=0)


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of a tensor over the processes."""
    if world_size() > 1:
        share()
        values = values.clone()
        with lost_explained():
            dist.all_reduce(values)
    return values


def max_over_ranks(value: int) -> int:
    """Return the largest value of the processes. It is a CPU message: no device waits for it."""
    return max(number for (number,) in share(value))


def gather_objects(value: Any) -> list[Any]:
    """Return the value of every process, in order of rank, on rank 0; the others get their own alone."""
    if world_size() == 1:
        return [value]
    share()
    gathered: list[Any] | None = [None] * world_size() if is_main() else None
    with lost_explained():
        dist.gather_object(value, gathered)
    return gathered if gathered is not None else [value]


def all_gather_objects(value: Any) -> list[Any]:
    """Return the value of every process, in order of rank, on every process."""
    if world_size() == 1:
        return [value]
    share()
    gathered: list[Any] = [None] * world_size()
    with lost_explained():
        dist.all_gather_object(gathered, value)
    return gathered


def broadcast_object(value: Any) -> Any:
    """Return the value of rank 0 on every process."""
    if world_size() == 1:
        return value
    share()
    shared = [value]
    with lost_explained():
        dist.broadcast_object_list(shared, src=0)
    return shared[0]


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        share()


def _is_initialised() -> bool:
    return dist.is_available() and dist.is_initialized()
