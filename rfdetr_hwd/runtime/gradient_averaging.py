"""Average gradients over the ranks while the last backward pass runs; a rank whose pass fails holds nobody up.

`DistributedDataParallel` sends a bucket when its gradients are there, and nothing else sends it. A rank that runs out
of memory in its backward pass never sends the rest, so the others wait for it. Here every rank sends every bucket, in
the same order, whatever becomes of its passes. The ranks then agree on whether to use what they have received.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from rfdetr_hwd.runtime.distributed import lost_explained, max_over_ranks, world_size
from rfdetr_hwd.runtime.memory import OutOfMemoryError, noting_shortage

BUCKET_ELEMENTS = 1 << 22
"""Elements averaged in one message: 16 MiB of float32."""


class _Bucket:
    """Parameters whose gradients are averaged in one message.

    Its memory is reserved once, so that a rank that is out of memory can still send.

    Args:
        parameters: Of one type, on one device.

    Attributes:
        missing: How many of their gradients are not complete.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters, self.missing = parameters, len(parameters)
        self._flat = parameters[0].new_empty(sum(parameter.numel() for parameter in parameters))
        parts = self._flat.split([parameter.numel() for parameter in parameters])
        self._views = [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]
        self._work: dist.Work | None = None

    @torch.no_grad()
    def send(self, is_used: bool = True) -> None:
        """Begin to add the gradients of all ranks; a missing one is zero. What is not used is sent as it is."""
        if is_used:
            for view, parameter in zip(self._views, self.parameters, strict=True):
                view.copy_(parameter.grad) if parameter.grad is not None else view.zero_()
        with lost_explained():
            self._work = dist.all_reduce(self._flat, async_op=True)

    def wait(self) -> None:
        """Wait for the message; on a GPU only later work there waits for it."""
        if self._work is not None:
            self._work.wait()
            self._work = None

    @torch.no_grad()
    def read(self, num_ranks: int) -> None:
        """Set the gradients, where there are any, to the sum over the number of ranks."""
        self._flat.div_(num_ranks)
        for view, parameter in zip(self._views, self.parameters, strict=True):
            if parameter.grad is not None:
                parameter.grad.copy_(view)


def _in_buckets(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return the parameters that learn in groups of one type and about `BUCKET_ELEMENTS`."""
    buckets: list[list[nn.Parameter]] = []
    for parameter in parameters:
        if not parameter.requires_grad:
            continue
        if not buckets or not _fits(parameter, buckets[-1]):
            buckets.append([])
        buckets[-1].append(parameter)
    return buckets


def _fits(parameter: nn.Parameter, bucket: Sequence[nn.Parameter]) -> bool:
    is_alike = (parameter.dtype, parameter.device) == (bucket[0].dtype, bucket[0].device)
    return is_alike and sum(member.numel() for member in bucket) < BUCKET_ELEMENTS


class GradientAverager:
    """Averages the gradients of parameters over the ranks, in messages that are sent during the backward pass.

    Args:
        parameters: In the order in which a backward pass completes their gradients; another order sends them later.

    Attributes:
        is_overlapping: Whether messages are sent during the pass, not after it.
    """

    is_overlapping = True

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._buckets = [_Bucket(members) for members in _in_buckets(parameters)] if world_size() > 1 else []
        self._is_last_pass, self._num_sent = False, 0
        self._bucket_of = {parameter: bucket for bucket in self._buckets for parameter in bucket.parameters}
        for bucket in self._buckets:
            for parameter in bucket.parameters:
                parameter.register_post_accumulate_grad_hook(self._send_what_is_complete)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send every bucket: those that are complete in the last pass of the block, and the rest where it ends.

        The rest is also sent if the block or a message fails. `average` or `discard` follows, once all have agreed.
        """
        self._is_last_pass, self._num_sent = False, 0
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters)
        try:
            yield
            self._send_rest(is_used=True)
        except BaseException:
            self._send_rest(is_used=False)
            raise

    def begin_last_pass(self) -> None:
        """Send buckets from here on: no later pass adds to their gradients."""
        self._is_last_pass = self.is_overlapping

    def used(self) -> int:
        """Return a number that is the same on ranks on which the same parameters have a gradient."""
        return zlib.crc32(bytes(self._has_gradient()))

    def average(self, is_same_use: bool) -> None:
        """Wait for the messages and replace the gradients by their averages; every rank calls it in the same place.

        Args:
            is_same_use: Whether `used` is the same on every rank. If not, a gradient that is missing on some ranks is
                zero there, and one that is missing on all stays missing.

        Raises:
            OutOfMemoryError: A rank has no room for gradients that only others have.
        """
        self.discard()
        if not is_same_use:
            self._add_missing()
        for bucket in self._buckets:
            bucket.read(world_size())

    def discard(self) -> None:
        """Wait for the messages, and leave the gradients as they are."""
        with lost_explained():
            for bucket in self._buckets:
                bucket.wait()

    def _send_what_is_complete(self, parameter: nn.Parameter) -> None:
        """Count a gradient. Send the buckets that are complete, in their order."""
        if not self._is_last_pass:
            return
        bucket = self._bucket_of[parameter]
        if not bucket.missing:
            raise RuntimeError("a gradient was added to after it was complete, and may have been sent before")
        bucket.missing -= 1
        while self._num_sent < len(self._buckets) and not self._buckets[self._num_sent].missing:
            self._buckets[self._num_sent].send()
            self._num_sent += 1

    def _send_rest(self, is_used: bool) -> None:
        self._is_last_pass = False
        for bucket in self._buckets[self._num_sent :]:
            bucket.send(is_used)
            self._num_sent += 1

    def _has_gradient(self) -> list[bool]:
        return [parameter.grad is not None for bucket in self._buckets for parameter in bucket.parameters]

    def _add_missing(self) -> None:
        """Give parameters without a gradient a zero one, if another rank has one."""
        used = torch.tensor(self._has_gradient(), dtype=torch.int32)
        with lost_explained():
            dist.all_reduce(used, op=dist.ReduceOp.MAX)
        parameters = [parameter for bucket in self._buckets for parameter in bucket.parameters]
        with noting_shortage() as shortage:
            for parameter, is_used in zip(parameters, used.tolist(), strict=True):
                if is_used and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        if max_over_ranks(int(shortage.is_out)):
            raise OutOfMemoryError
