"""Find out how many images fit into a GPU's memory, before the first epoch needs to know."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.engine.distributed import max_over_ranks
from rfdetr_hwd.engine.random_state import random_state, restore_random_state
from rfdetr_hwd.engine.train_step import Criterion, MicroBatch, OutOfMemoryError, train_step


def largest_micro_batch(
    network: nn.Module, criterion: Criterion, sample: Callable[[int], MicroBatch], limit: int, args: HasAmp
) -> int:
    """Return the most images whose training passes fit into memory on every rank: `limit`, or half of it, or less.

    What AdamW will hold is set aside while it is tried. Weights, buffers and random generators are left as they were.

    Args:
        network: On its device, in any mode, which it keeps.
        criterion: Loss of float32 outputs.
        sample: Makes a batch of so many images, as large and as full of objects as any that will come.
        limit: The most that are wanted.
        args: Precision, for `amp_context`.
    """
    was_training, generators = network.training, random_state()
    buffers = [buffer.clone() for buffer in network.buffers()]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.0)
    network.train()
    try:
        size = limit
        while size > 1 and not _fits(network, criterion, sample(size), optimizer, args):
            size = -(-size // 2)
    finally:
        optimizer.zero_grad(set_to_none=True)
        network.train(was_training)
        for buffer, value in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(value)
        restore_random_state(generators)
        torch.cuda.empty_cache()
    return size


def largest_evaluation_pass(network: nn.Module, side: int, limit: int, args: HasAmp) -> int:
    """Return the most images that a pass of an evaluation can take while training: `limit`, or half of it, or less.

    Args:
        network: On its device, in any mode, which it keeps.
        side: Of the images, in pixels.
        limit: The most that are wanted.
        args: Precision, for `amp_context`.
    """
    was_training = network.training
    network.eval()
    try:
        size = limit
        while size > 1 and not _passes(network, size, side, args):
            torch.cuda.empty_cache()
            size = -(-size // 2)
    finally:
        network.train(was_training)
        torch.cuda.empty_cache()
    return size


def _passes(network: nn.Module, size: int, side: int, args: HasAmp) -> bool:
    device = next(network.parameters()).device
    with suppress(torch.OutOfMemoryError), torch.inference_mode():
        held = _moments(network)
        forward_in_amp(network, torch.zeros(size, 3, side, side, device=device), args)
        return len(held) > 0
    return False


def _moments(network: nn.Module) -> list[torch.Tensor]:
    """Return tensors of the size of what AdamW will hold."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [torch.empty_like(parameter) for parameter in trained for _ in range(2)]


def _fits(
    network: nn.Module, criterion: Criterion, batch: MicroBatch, optimizer: torch.optim.Optimizer, args: HasAmp
) -> bool:
    moments = None
    with suppress(torch.OutOfMemoryError):
        moments = _moments(network)
    if max_over_ranks(int(moments is None)):
        return False
    try:
        train_step(network, criterion, [batch], optimizer, args, clip=0.0)
    except OutOfMemoryError:  # of any rank
        torch.cuda.empty_cache()
        return False
    return True
