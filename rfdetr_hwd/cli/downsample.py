"""`rfdetr-hwd downsample`: list the modules that can replace the stride-2 convolution."""

from rfdetr_hwd.console import print_table, say

CHANNELS = 384
SIDE = 24


def list_all() -> None:
    """List the registered downsamplers.

    Shows the mathematics, parameters, multiply-adds, foldability and reference of each.
    """
    import torch

    from rfdetr_hwd.layers.cost import count_multiply_adds
    from rfdetr_hwd.layers.linear import LinearDownsample
    from rfdetr_hwd.layers.registry import build_downsample, list_downsamples

    rows = []
    for name, registered in list_downsamples().items():
        module = build_downsample(name, CHANNELS, CHANNELS)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        folds = "yes" if isinstance(module, LinearDownsample) else "no"
        macs = count_multiply_adds(module, torch.zeros(1, CHANNELS, SIDE, SIDE))
        row = (name, registered.mathematics, f"{parameters:,}", f"{macs / 1e6:.1f} M", folds, registered.reference)
        rows.append(row)
    title = f"downsamplers, {CHANNELS} channels in and out, multiply-adds for a {SIDE}x{SIDE} map"
    print_table(title, ("name", "mathematics", "parameters", "multiply-adds", "folds", "reference"), rows)
    say("Folds: exactly into the stock 3x3 convolution. hwd, spd and conv2x2 span the same functions.")
    say("Custom modules: downsample.name=package.module:Class, see `register_downsample`.")
