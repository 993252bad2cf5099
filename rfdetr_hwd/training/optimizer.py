"""AdamW's parameter groups and moments, the learning rate as a pure function of the step, and the EMA."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a constant or a cosine.

    Attributes:
        kind: Schedule after the warm-up.
        warmup_steps: Steps of the warm-up.
        total_steps: Steps of the run.
        final_factor: Final factor of the cosine.
    """

    kind: Literal["constant", "cosine"]
    warmup_steps: int
    total_steps: int
    final_factor: float = 0.0

    def factor(self, step: int) -> float:
        """Return the factor on every learning rate at a step, counted from 0.

        Example:
            >>> [Schedule("constant", 4, 100).factor(step) for step in (0, 1, 3, 4, 99)]
            [0.25, 0.5, 1.0, 1.0, 1.0]
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return 1.0
        share = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return self.final_factor + (1 - self.final_factor) * (1 + math.cos(math.pi * min(1.0, share))) / 2

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the learning rates of a step and return the factor."""
        factor = self.factor(step)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        return factor


def build_adamw(parameters: Iterable[tuple[str, nn.Parameter, float, float]]) -> torch.optim.AdamW:
    """Build fused AdamW, with one group for each pair of learning rate and weight decay in order of first appearance.

    Fused, it reads and writes every tensor once, in one kernel, and needs no memory besides its moments.

    Args:
        parameters: (name, parameter, learning rate, weight decay).
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for _, parameter, rate, decay in parameters:
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "lr": rate, "base_lr": rate, "weight_decay": decay}
            for (rate, decay), members in groups.items()
        ],
        fused=True,
    )


def highest_rates(
    optimizer: torch.optim.Optimizer, network: nn.Module, rate_name: Callable[[str], str]
) -> dict[str, float]:
    """Return the highest current learning rate of each name."""
    rates: dict[str, float] = {}
    for name, rate, _ in _named(optimizer, network):
        called = rate_name(name)
        rates[called] = max(rate, rates.get(called, 0.0))
    return rates


def moments_by_name(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return the optimizer's state of each parameter, by parameter name.

    Unlike `optimizer.state_dict()` it does not depend on the groups. Other rates or weight decays change the groups.
    """
    return {name: optimizer.state.get(parameter, {}) for name, _, parameter in _named(optimizer, network)}


def restore_moments(
    optimizer: torch.optim.Optimizer, network: nn.Module, moments: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Restore the state from `moments_by_name`. Learning rates and weight decays stay as built.

    Raises:
        ValueError: The state belongs to other parameters.
    """
    named = {name: parameter for name, _, parameter in _named(optimizer, network)}
    if moments.keys() != named.keys():
        odd = sorted(moments.keys() ^ named.keys())
        raise ValueError(f"it holds moments of other parameters: {', '.join(odd[:3])} of {len(odd)}")
    for name, parameter in named.items():
        shapes = {key: tuple(value.shape) for key, value in moments[name].items()}
        if shapes not in ({}, {"step": (), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}):
            raise ValueError(f"it holds moments of {name} with the shapes {shapes}")
    packed = optimizer.state_dict()
    packed["state"] = {index: dict(moments[name]) for index, name in enumerate(named)}
    optimizer.load_state_dict(packed)


def _named(optimizer: torch.optim.Optimizer, network: nn.Module) -> Iterator[tuple[str, float, nn.Parameter]]:
    """Yield (name, learning rate, parameter) in the optimizer's order."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield names[parameter], group["lr"], parameter


class ExponentialMovingAverage:
    """The exponential moving average (EMA) of a network's weights; buffers are copied.

    Its decay rises with the number of steps: `decay * (1 - exp(-step / tau))`. It keeps no step counter: reading one
    from a GPU would stall every step.

    Args:
        network: The network without a distributed wrapper.
        decay: Decay in the long run.
        tau: Steps over which the decay rises; 0: no ramp.

    Attributes:
        module: A copy of the network with the averaged weights.
    """

    def __init__(self, network: nn.Module, decay: float, tau: float) -> None:
        self.module = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.tau = decay, tau

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Update the EMA after a step. The first step copies the weights.

        Args:
            network: The network with the raw weights.
            step: Completed steps, counted from 1.
        """
        rise = 1 - math.exp(-step / self.tau) if self.tau > 0 else 1.0
        share = 1.0 if step == 1 else 1 - self.decay * rise
        torch._foreach_lerp_(list(self.module.parameters()), list(network.parameters()), share)
        for averaged, current in zip(self.module.buffers(), network.buffers(), strict=True):
            averaged.copy_(current)
