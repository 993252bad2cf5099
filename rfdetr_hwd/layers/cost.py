"""The cost of a module."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_multiply_adds(module: nn.Module, in_channels: int, side: int) -> int:
    """Return the multiply-adds of the convolutions and matrix products in one forward pass of one map."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(torch.zeros(1, in_channels, side, side))
    return int(counter.get_total_flops()) // 2
