"""Scenarios of two ranks that average gradients; a rank prints what became of each as JSON.

They have processes of their own: torch refuses a backward pass in a process that was forked after one.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from rfdetr_hwd.runtime import distributed, gradient_averaging
from rfdetr_hwd.runtime.distributed import rank
from rfdetr_hwd.runtime.gradient_averaging import GradientAverager
from rfdetr_hwd.runtime.memory import OutOfMemoryError
from rfdetr_hwd.runtime.process_group import process_group


def parameters() -> list[nn.Parameter]:
    """Return parameters of a few elements; the last of 64 bits."""
    made = [nn.Parameter(torch.zeros(size)) for size in (3, 2, 4, 1)]
    return [*made, nn.Parameter(torch.zeros(2, dtype=torch.float64))]


def backward(members: Sequence[nn.Parameter], without: Sequence[int], factor: float = 1.0) -> None:
    """Give parameter number i the gradient i + 1 + 10 * rank, times a factor."""
    terms = [p.sum() * factor * (i + 10.0 * rank() + 1) for i, p in enumerate(members) if i not in without]
    torch.stack([term.double() for term in terms]).sum().backward()


def gradients(members: Sequence[nn.Parameter]) -> list[list[float] | None]:
    """Return gradients as numbers."""
    return [None if p.grad is None else p.grad.tolist() for p in members]


def two_passes(is_overlapping: bool) -> Any:
    """Average the gradients of two passes; a parameter has none on one rank, one has none at all."""
    members = parameters()
    averager = GradientAverager(list(reversed(members)))
    averager.is_overlapping = is_overlapping
    with averager.sending():
        backward(members, [1, 3], factor=3.0)
        averager.begin_last_pass()
        backward(members, [3] if rank() == 0 else [1, 3], factor=-2.0)
    uses = {use for (use,) in distributed.share(averager.used())}
    averager.average(is_same_use=len(uses) == 1)
    return len(uses), gradients(members)


def early_messages() -> Any:
    """Return the messages that were sent as the second of two gradients was complete, in each of two passes."""
    first, second = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
    sent: list[int] = []
    averager = GradientAverager([first, second])
    second.register_post_accumulate_grad_hook(lambda _: sent.append(averager._num_sent))
    with averager.sending():
        for number in range(2):
            if number == 1:
                averager.begin_last_pass()
            (second.sum() + first.sum()).backward()
    averager.average(is_same_use=True)
    return sent[0], sent[1] > 0, gradients([first, second])


def failing_pass() -> Any:
    """Let a rank run out of memory after some buckets are sent; agree, discard, and make the next step."""
    members = parameters()
    averager = GradientAverager(list(reversed(members)))
    failures = iter([True])

    def fail(_: Tensor) -> None:
        if rank() == 1 and next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory")

    members[2].register_post_accumulate_grad_hook(fail)
    return two_steps(members, averager)


def failing_message() -> Any:
    """Let a rank have no room to fill its first message, after its passes."""
    members = parameters()
    averager = GradientAverager(members)
    send, failures = gradient_averaging._Bucket.send, iter([True])

    def fill(bucket: Any, is_used: bool = True) -> None:
        if rank() == 1 and is_used and next(failures, False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        send(bucket, is_used)

    averager.is_overlapping = False
    with mock.patch.object(gradient_averaging._Bucket, "send", fill):
        return two_steps(members, averager)


def two_steps(members: Sequence[nn.Parameter], averager: GradientAverager) -> Any:
    """Make two steps; return on which ranks each ran out of memory, and the gradients of the second."""
    has_failed = []
    for _ in range(2):
        is_out = False
        try:
            with averager.sending():
                averager.begin_last_pass()
                backward(members, [])
        except torch.OutOfMemoryError:
            is_out = True
        has_failed.append([is_out for (is_out,) in distributed.share(int(is_out))])
        if any(has_failed[-1]):
            averager.discard()
            for parameter in members:
                parameter.grad = None
    averager.average(is_same_use=True)
    return has_failed, gradients(members)


def no_room() -> Any:
    """Let a rank have no room for a gradient that only the other has."""
    members = parameters()
    averager = GradientAverager(members)
    with averager.sending():
        backward(members, [1] if rank() == 1 else [])
    try:
        with mock.patch.object(torch, "zeros_like", side_effect=torch.OutOfMemoryError("CUDA out of memory")):
            averager.average(is_same_use=False)
    except OutOfMemoryError:
        return f"no room, {distributed.max_over_ranks(rank())}"
    return "room"


def twice() -> Any:
    """Complete a gradient twice in the last pass, as a pass within the pass might."""
    parameter = nn.Parameter(torch.zeros(2))
    averager = GradientAverager([parameter])
    try:
        with averager.sending():
            averager.begin_last_pass()
            parameter.sum().backward()
            parameter.sum().backward()
    except RuntimeError as error:
        averager.discard()
        return str(error)
    return "averaged"


SCENARIOS: dict[str, Callable[[], Any]] = {
    "two passes": lambda: two_passes(True),
    "two passes, then messages": lambda: two_passes(False),
    "early messages": early_messages,
    "a pass that fails": failing_pass,
    "a message that fails": failing_message,
    "no room": no_room,
    "twice": twice,
}


@contextmanager
def small_buckets() -> Iterator[None]:
    """Send messages of a few elements."""
    with mock.patch.object(gradient_averaging, "BUCKET_ELEMENTS", 4):
        yield


if __name__ == "__main__":
    with process_group(), small_buckets():
        print(json.dumps({name: scenario() for name, scenario in SCENARIOS.items()}), flush=True)
