"""Find the largest evaluation batch that fits into a GPU's memory beside a training."""

import torch
from torch import nn

from rfdetr_hwd.amp import HasAmp, forward_in_amp
from rfdetr_hwd.runtime.largest_batch import largest_that_fits, leaving_no_trace, missing_moments
from rfdetr_hwd.runtime.memory import noting_shortage


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
