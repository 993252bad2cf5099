"""The order in which a backward pass completes the gradients of RF-DETR."""

from torch import nn

_FORWARD = ("backbone.0.encoder.", "backbone.0.projector.", "")
"""Starts of parameter names in the order of the forward pass. Upstream lists the transformer before the backbone."""


def backward_order(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a network, from its heads back to its encoder."""
    forward = sorted(network.named_parameters(), key=lambda named: _stage(named[0]))
    return [parameter for _, parameter in reversed(forward)]


def _stage(name: str) -> int:
    return next(index for index, start in enumerate(_FORWARD) if name.startswith(start))
