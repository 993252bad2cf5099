"""How everything here is timed: a warm-up, rounds in which the candidates take turns, the median and the p95."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

WARM_UP = 2
"""First rounds, which are not counted: they load kernels and fill caches."""

_Key = TypeVar("_Key", bound=Hashable)


class Spread(NamedTuple):
    """The median and the 95th percentile of some times, both in the unit of the times."""

    median: float
    p95: float


def spread(times: Sequence[float]) -> Spread:
    """Return the median and the 95th percentile, interpolated linearly.

    Example:
        >>> spread([4.0, 1.0, 2.0])
        Spread(median=2.0, p95=3.8)
    """
    ordered = sorted(times)
    place = 0.95 * (len(ordered) - 1)
    low, high = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
    return Spread(statistics.median(ordered), round(low + (high - low) * (place - int(place)), 9))


def time_in_turns(
    functions: Mapping[_Key, Callable[[], Any]], device: torch.device, rounds: int, calls: int = 1
) -> dict[_Key, list[float]]:
    """Time functions in turns, so that a change of the machine's speed meets all of them.

    Args:
        functions: What to time, by name.
        device: The device that they compute on.
        rounds: Times of each that are counted, after the warm-up.
        calls: Calls that one time is the mean of, for functions that take microseconds.

    Returns:
        Milliseconds of a call, for each round in order.
    """
    times: dict[_Key, list[float]] = {name: [] for name in functions}
    for number in range(WARM_UP + rounds):
        for name, function in functions.items():
            measured = milliseconds(function, device, calls)
            if number >= WARM_UP:
                times[name].append(measured)
    return times


def milliseconds(function: Callable[[], Any], device: torch.device, calls: int = 1) -> float:
    """Return the milliseconds of a call: the mean of `calls`, between two moments at which the device is idle."""
    wait_for(device)
    start = time.perf_counter()
    for _ in range(calls):
        function()
    wait_for(device)
    return (time.perf_counter() - start) * 1e3 / calls


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done all its work. A CPU has none waiting."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
