"""The cost of a module."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_multiply_adds(module: nn.Module, x: Tensor) -> int:
    """Return the multiply-adds of the convolutions and matrix products in one forward pass."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(x)
    return int(counter.get_total_flops()) // 2
