"""Find the largest batch that fits into a GPU's memory.

The search reserves memory for AdamW's moments. Weights, buffers and random generators are unchanged afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.runtime.memory import noting_shortage
from rfdetr_hwd.runtime.random_state import random_state, restore_random_state


def largest_evaluation_pass(
    network: nn.Module, optimizer: torch.optim.Optimizer, side: int, limit: int, args: HasAmp
) -> int:
    """Return the largest evaluation batch that fits into memory beside a training: `limit`, half of it, or less.

    Args:
        network: On its device, in any mode. The mode is kept.
        optimizer: Optimizer of the training, new or restored.
        side: Resolution of the images in pixels.
        limit: Largest size to try.
        args: Precision, for `amp_context`.
    """
    device = next(network.parameters()).device

    def fits(size: int) -> bool:
        with noting_shortage() as shortage:
            moments = missing_moments(optimizer)
            with torch.inference_mode():
                forward_in_amp(network, torch.zeros(size, 3, side, side, device=device), args)
            del moments
        return not shortage.is_out

    with leaving_no_trace(network, is_training=False):
        return largest_that_fits(fits, limit)


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
