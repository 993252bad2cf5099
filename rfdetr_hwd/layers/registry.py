"""The downsamplers by name.

Contract of a downsampler: built with `(in_channels, out_channels, **options)`; maps (N, C, H, W) to
(N, O, ceil(H / 2), ceil(W / 2)); no bias, no norm, no activation, because those stay with the site.
"""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from rfdetr_hwd.errors import UserError

_REGISTRY: dict[str, Callable[..., nn.Module]] = {}

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


class DownsampleError(UserError):
    """A downsampler that does not exist or cannot be built."""

    exit_code = 2


def register_downsample(name: str) -> Callable[[Builder], Builder]:
    """Register a downsampler under a name; use as a decorator of its class.

    Args:
        name: What `downsample.name` calls it.

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
            raise DownsampleError(f"the downsampler {name!r} is registered already, as {_REGISTRY[name].__qualname__}")
        _REGISTRY[name] = builder
        return builder

    return register


def build_downsample(name: str, in_channels: int, out_channels: int, **options: object) -> nn.Module:
    """Build a registered downsampler.

    Args:
        name: A name of `list_downsamples()`.
        in_channels: C of the input (N, C, H, W).
        out_channels: O of the output (N, O, ceil(H / 2), ceil(W / 2)).
        options: The downsampler's own, for example `backend` of hwd.

    Raises:
        DownsampleError: The name is unknown or an option is not accepted.
    """
    if name not in _REGISTRY:
        raise DownsampleError(f"unknown downsampler {name!r}; known are {', '.join(list_downsamples())}")
    try:
        return _REGISTRY[name](in_channels, out_channels, **options)
    except TypeError as error:
        raise DownsampleError(f"the downsampler {name!r} does not accept {options}: {error}") from None


def list_downsamples() -> list[str]:
    """Return the registered names, sorted."""
    return sorted(_REGISTRY)
