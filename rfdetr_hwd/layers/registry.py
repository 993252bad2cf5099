"""The downsamplers by name.

Contract of a downsampler: built with `(in_channels, out_channels, **options)`; maps (N, C, H, W) to
(N, O, ceil(H / 2), ceil(W / 2)); no bias, no norm, no activation, because those stay with the site.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from rfdetr_hwd.errors import UserError

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


class DownsampleError(UserError):
    """A downsampler that does not exist, cannot be built or does not keep the contract."""

    exit_code = 2


@dataclass(frozen=True)
class Registered:
    """A downsampler as it is listed.

    Attributes:
        builder: Its class.
        mathematics: What it computes, in a line.
        reference: Where it comes from.
    """

    builder: Callable[..., nn.Module]
    mathematics: str
    reference: str


_REGISTRY: dict[str, Registered] = {}


def register_downsample(name: str, mathematics: str = "", reference: str = "-") -> Callable[[Builder], Builder]:
    """Register a downsampler under a name; use as a decorator of its class.

    Args:
        name: Its name in `downsample.name`.
        mathematics: What it computes, in a line.
        reference: Where it comes from.

    Raises:
        DownsampleError: The name is taken.

    Example:
        >>> from torch import nn
        >>> @register_downsample("example_average")
        ... class Average(nn.Sequential):
        ...     def __init__(self, in_channels, out_channels):
        ...         pool, mix = nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(in_channels, out_channels, 1, bias=False)
        ...         super().__init__(pool, mix)
        >>> build_downsample("example_average", 8, 16)[1].weight.shape
        torch.Size([16, 8, 1, 1])
    """

    def register(builder: Builder) -> Builder:
        if name in _REGISTRY:
            taken = _REGISTRY[name].builder.__qualname__
            raise DownsampleError(f"the downsampler {name!r} is registered already, as {taken}")
        summary = mathematics or (inspect.getdoc(builder) or "").partition("\n")[0]
        _REGISTRY[name] = Registered(builder, summary, reference)
        return builder

    return register


def build_downsample(name: str, in_channels: int, out_channels: int, **options: object) -> nn.Module:
    """Build a downsampler and check that it keeps the contract.

    Args:
        name: A name of `list_downsamples()`, or `package.module:Class` for a class that can be imported.
        in_channels: C of the input (N, C, H, W).
        out_channels: O of the output (N, O, ceil(H / 2), ceil(W / 2)).
        options: The downsampler's own, for example `backend` of hwd.

    Raises:
        DownsampleError: The name is unknown, an option is not accepted, or the contract is not kept. The message names
            the cause.
    """
    module = _find_builder(name, options)(in_channels, out_channels, **options)
    _check_contract(module, name, in_channels, out_channels)
    return module


def check_downsample(name: str, **options: object) -> None:
    """Refuse a name or an option that `build_downsample` would refuse, whatever the channels.

    A class that is imported is not built: it may suit the channels of its site alone.

    Args:
        name: As in `build_downsample`.
        options: The downsampler's own.

    Raises:
        DownsampleError: The name is unknown, or an option is not accepted.
    """
    builder = _find_builder(name, options)
    if ":" not in name:
        builder(4, 4, **options)


def list_downsamples() -> dict[str, Registered]:
    """Return the registered downsamplers, in order of registration."""
    return dict(_REGISTRY)


def _find_builder(name: str, options: Mapping[str, object]) -> Callable[..., nn.Module]:
    """Return the class of a downsampler that accepts these options."""
    builder = _import_class(name) if ":" in name else _find(name)
    try:
        inspect.signature(builder).bind(4, 4, **options)
    except TypeError as error:
        accepted = ", ".join(list(inspect.signature(builder).parameters)[2:]) or "none"
        raise DownsampleError(f"the downsampler {name!r}: {error}. Its options are {accepted}") from None
    return builder


def _find(name: str) -> Callable[..., nn.Module]:
    if name not in _REGISTRY:
        known = ", ".join(sorted(_REGISTRY))
        near = difflib.get_close_matches(name, _REGISTRY, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise DownsampleError(
            f"unknown downsampler {name!r}. {hint}Known are {known}, or a class as package.module:Class"
        )
    return _REGISTRY[name].builder


def _import_class(name: str) -> Callable[..., nn.Module]:
    module_name, _, class_name = name.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except ImportError as error:
        raise DownsampleError(
            f"downsample.name={name}: the module cannot be imported ({error}). Install it, or put its directory on "
            "PYTHONPATH"
        ) from None
    except (AttributeError, ValueError):
        raise DownsampleError(f"downsample.name={name}: {module_name} has no {class_name!r}") from None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise DownsampleError(f"downsample.name={name} is not a class derived from torch.nn.Module")
    return found


@torch.no_grad()
def _check_contract(module: nn.Module, name: str, in_channels: int, out_channels: int) -> None:
    """Run a module on small inputs and compare the shapes with the contract."""
    sizes = [(4, 6)] if getattr(module, "needs_even_sizes", False) else [(4, 6), (5, 7)]
    was_training = module.training
    module.eval()
    for height, width in sizes:
        # Run it.
        expected = (1, out_channels, -(-height // 2), -(-width // 2))
        given = f"an input of shape {(1, in_channels, height, width)}"
        try:
            output = module(torch.zeros(1, in_channels, height, width))
        except Exception as error:  # a user's module raises anything
            raise DownsampleError(f"the downsampler {name!r} fails on {given}: {error}") from error
        # Compare the shape.
        if not isinstance(output, Tensor) or tuple(output.shape) != expected:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise DownsampleError(
                f"the downsampler {name!r} breaks the contract: {given} gives {got}, not {expected} (N, O, ceil(H/2), "
                "ceil(W/2)). Pad odd sizes, or set needs_even_sizes = True on the class"
            )
    module.train(was_training)
