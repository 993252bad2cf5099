"""Try batch sizes on a GPU: the search, and what leaves weights, buffers and random generators unchanged afterwards."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from rfdetr_hwd.runtime.random_state import random_state, restore_random_state


def largest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """Return the limit, or half of it, or less: the first of these sizes that fits, at least 1."""
    size = limit
    while size > 1 and not fits(size):
        torch.cuda.empty_cache()
        size = -(-size // 2)
    return size


@contextmanager
def leaving_no_trace(network: nn.Module, is_training: bool) -> Iterator[None]:
    """Set the mode for a while. Then restore mode, buffers and random generators, and free memory."""
    generators, was_training = random_state(), network.training
    buffers = [buffer.clone() for buffer in network.buffers()]
    network.train(is_training)
    try:
        yield
    finally:
        network.train(was_training)
        network.zero_grad(set_to_none=True)
        for buffer, value in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(value)
        restore_random_state(generators)
        torch.cuda.empty_cache()


def missing_moments(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Return tensors of the size of the AdamW moments that do not exist yet."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if not optimizer.state.get(p)]
    return [torch.empty_like(parameter) for parameter in parameters for _ in range(2)]
