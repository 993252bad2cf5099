"""Find out how many images fit into a GPU's memory, before the first epoch needs to know.

Meanwhile room is set aside for what AdamW does not hold yet. Weights, buffers and random generators stay as they were.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.runtime.distributed import SharedError, max_over_ranks
from rfdetr_hwd.runtime.memory import OutOfMemoryError, is_out_of_memory
from rfdetr_hwd.runtime.random_state import random_state, restore_random_state
from rfdetr_hwd.training.train_step import Criterion, MicroBatch, NonFiniteError, train_step


def largest_micro_batch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: Criterion,
    sample: Callable[[int], MicroBatch],
    limit: int,
    args: HasAmp,
) -> int:
    """Return the most images whose training passes fit into memory on every rank: `limit`, or half of it, or less.

    Args:
        network: On its device, in any mode, which it keeps.
        optimizer: The one that will train it, new or restored.
        criterion: Loss of float32 outputs.
        sample: Makes a batch of so many images, as large and as full of objects as any that will come.
        limit: The most that are wanted.
        args: Precision, for `amp_context`.
    """
    still = torch.optim.SGD([p for group in optimizer.param_groups for p in group["params"]], lr=0.0)

    def fits(size: int) -> bool:
        moments = None
        try:
            moments = _missing_moments(optimizer)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        if max_over_ranks(int(moments is None)):
            return False
        try:
            train_step(network, criterion, [sample(size)], still, args, clip=0.0)
        except OutOfMemoryError:  # of any rank
            return False
        except NonFiniteError:  # which the training will answer
            return True
        except SharedError as error:
            raise error.original from None
        return True

    with _traceless(network, is_training=True):
        return _largest(fits, limit)


def largest_evaluation_pass(
    network: nn.Module, optimizer: torch.optim.Optimizer, side: int, limit: int, args: HasAmp
) -> int:
    """Return the most images that a pass of an evaluation can take beside a training: `limit`, or half of it, or less.

    Args:
        network: On its device, in any mode, which it keeps.
        optimizer: The one that will train it, new or restored.
        side: Of the images, in pixels.
        limit: The most that are wanted.
        args: Precision, for `amp_context`.
    """
    device = next(network.parameters()).device

    def fits(size: int) -> bool:
        try:
            moments = _missing_moments(optimizer)
            with torch.inference_mode():
                forward_in_amp(network, torch.zeros(size, 3, side, side, device=device), args)
            del moments
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    with _traceless(network, is_training=False):
        return _largest(fits, limit)


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    size = limit
    while size > 1 and not fits(size):
        torch.cuda.empty_cache()
        size = -(-size // 2)
    return size


@contextmanager
def _traceless(network: nn.Module, is_training: bool) -> Iterator[None]:
    """Set the mode for a while; then put mode, buffers and random generators back, and free what was allocated."""
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


def _missing_moments(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    """Return tensors of the size of what AdamW will hold, and does not yet."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if not optimizer.state.get(p)]
    return [torch.empty_like(parameter) for parameter in parameters for _ in range(2)]
