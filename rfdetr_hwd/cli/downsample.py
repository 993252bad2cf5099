"""`rfdetr-hwd downsample`: what can stand in for the stride-2 convolution."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rfdetr_hwd.console import print_table, say
from rfdetr_hwd.layers.linear import LinearDownsample
from rfdetr_hwd.layers.registry import build_downsample, list_downsamples

CHANNELS = 384
SIDE = 24


def run_list() -> None:
    """Print every registered downsampler: mathematics, parameters, multiply-adds, whether it folds, reference."""
    rows = []
    for name, registered in list_downsamples().items():
        module = build_downsample(name, CHANNELS, CHANNELS)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        folds = "yes" if isinstance(module, LinearDownsample) else "no"
        macs = count_multiply_adds(module, CHANNELS, SIDE)
        row = (name, registered.mathematics, f"{parameters:,}", f"{macs / 1e6:.1f} M", folds, registered.reference)
        rows.append(row)
    title = f"downsamplers, {CHANNELS} channels in and out, multiply-adds of one {SIDE}x{SIDE} map"
    print_table(title, ("name", "mathematics", "parameters", "multiply-adds", "folds", "reference"), rows)
    say("folds: into the stock 3x3 convolution, exactly. hwd, spd and conv2x2 span the same functions.")
    say("your own: downsample.name=package.module:Class, see `register_downsample`.")


def count_multiply_adds(module: nn.Module, in_channels: int, side: int) -> int:
    """Return the multiply-adds of the convolutions and matrix products in one forward pass of one map."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(torch.zeros(1, in_channels, side, side))
    return int(counter.get_total_flops()) // 2
