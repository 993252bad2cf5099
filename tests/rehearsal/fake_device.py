"""A CUDA device without data: shapes, types and devices of every operator are torch's own, and no GPU is needed.

A tensor on the wrong device or of the wrong type fails there as it would on a GPU. What is copied between the devices,
and what the host reads from the device, is noted: a GPU waits for each.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import rfdetr_hwd
from rfdetr_hwd.model import rfdetr as upstream
from tests.rehearsal.backward import backward

OWN, UPSTREAM = (Path(module.__file__).parent for module in (rfdetr_hwd, upstream.rfdetr_config))
PACKAGES = {OWN: "rfdetr_hwd", UPSTREAM: "rfdetr"}

_aten = torch.ops.aten
_SAME_TYPE = (_aten.convolution.default, _aten.convolution_backward.default, _aten.grid_sampler_2d.default)
"""Operators that refuse mixed types on a GPU, and do not when there is no data."""
_INDEXED = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default)
"""Operators that take indices from the host."""


@dataclass
class Traffic:
    """What passed between host and device, by file and line of the packages.

    Attributes:
        copies: (operator, direction, where).
        reads: Where the host read a number, and waited.
    """

    copies: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        """Forget what was noted."""
        self.copies.clear()
        self.reads.clear()

    def of(self, package: str) -> list[str]:
        """Return what a package caused, as lines."""
        lines = [f"{where}: {way} by {name}" for name, way, where in self.copies] + [f"{w}: read" for w in self.reads]
        return sorted(line for line in lines if line.startswith(package + "/"))


class _Watch(TorchDispatchMode):
    """Notes traffic, answers what the host reads, and refuses what only a tensor with data would refuse."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self.traffic = traffic

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tracer = sys.gettrace()
        sys.settrace(None)  # torch makes a thousand calls here, and none of the packages'
        try:
            return self._answer(func, args, kwargs or {})
        finally:
            sys.settrace(tracer)

    def _answer(self, func: Any, args: Any, kwargs: Any) -> Any:
        given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if func is _aten._local_scalar_dense.default and given[0].device.type == "cuda":
            self.traffic.reads[_where()] += 1
            return _answer(given[0].dtype)
        _check_devices(func, given)
        _check_types(func, given)
        _check_indices(func, args)
        result = func(*args, **kwargs)
        made = {value.device.type for value in tree_leaves(result) if isinstance(value, Tensor)}
        taken = {value.device.type for value in given if value.ndim or "copy" in func.__name__}
        if taken and len(taken | made) > 1:
            way = f"{'+'.join(sorted(taken))} -> {'+'.join(sorted(made))}"
            self.traffic.copies[func.__name__, way, _where()] += 1
        return result


def _check_devices(func: Any, given: Sequence[Tensor]) -> None:
    """Refuse what only some versions of torch refuse without data; a tensor of one number may be anywhere."""
    devices = {value.device.type for value in given if value.ndim}
    if len(devices) > 1 and func not in _INDEXED and "copy" not in func.__name__:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, not on {sorted(devices)}")


def _check_types(func: Any, given: Sequence[Tensor]) -> None:
    types = {value.dtype for value in given}
    if func in _SAME_TYPE and len(types) > 1:
        raise RuntimeError(f"{func}: input type and weight type should be the same, not {sorted(map(str, types))}")


def _check_indices(func: Any, args: Any) -> None:
    if func not in _INDEXED:
        return
    device = args[0].device
    for indices in args[1]:
        if indices is not None and indices.device.type not in ("cpu", device.type):
            raise RuntimeError(f"{func}: indices on {indices.device} for a tensor on {device}")
    if len(args) > 2 and args[2].ndim and args[2].device != device:
        raise RuntimeError(f"{func}: values on {args[2].device} for a tensor on {device}")


def _answer(dtype: torch.dtype) -> bool | float | int:
    """Return what the host reads: true, or one; there is no data."""
    return True if dtype is torch.bool else 1.0 if dtype.is_floating_point else 1


def _where() -> str:
    """Return the innermost file and line of the packages; of a backward pass, the file that began it."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        for folder, name in PACKAGES.items():
            if frame.f_code.co_filename.startswith(f"{folder}/"):
                return f"{name}/{frame.f_code.co_filename.removeprefix(f'{folder}/')}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


class _NoDriver(fake_tensor.FakeTensorMode):
    """Tensors without data that never look for a device, also where there is one."""

    avoid_device_init = True


def fake_shape(tensor: Tensor) -> Tensor:
    """Return the shape as a tensor; stands in for `torch._shape_as_tensor`, which needs data."""
    return torch.tensor(list(tensor.shape))


def fake_matches(costs: list[Tensor], sizes: list[int], groups: int) -> list[list[tuple[Tensor, Tensor]]]:
    """Match box i to query i of each group; stands in for `rfdetr.models._assignment.assign_many_bucketed`."""

    def match(cost: Tensor, size: int) -> tuple[Tensor, Tensor]:
        width = len(cost) // groups
        number = min(width, size)
        queries = torch.cat([torch.arange(number) + group * width for group in range(groups)])
        return queries, torch.arange(number).repeat(groups)

    return [[match(cost, size) for size in sizes] for cost in costs]


class Event:
    """An event that has happened."""

    def record(self) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Wait for nothing."""


STAND_INS: Mapping[str, Any] = {
    "torch.cuda.Event": Event,
    "torch.cuda.get_rng_state": lambda: None,
    "torch.cuda.is_available": lambda: True,
    "torch.cuda.is_bf16_supported": lambda including_emulation=True: True,
    "torch.cuda.is_current_stream_capturing": lambda: False,
    "torch.accelerator.current_accelerator": lambda check_available=False: None,
    "torch._subclasses.fake_tensor.init_gpu_context": lambda *_: None,
    "torch.Tensor.backward": backward,
    "torch._shape_as_tensor": fake_shape,
    "rfdetr.models._assignment.assign_many_bucketed": fake_matches,
}
"""What is patched, because it needs a driver or data."""


@contextmanager
def fake_cuda() -> Iterator[Traffic]:
    """Make `torch.device("cuda")` a device without data, and yield what passes between it and the host.

    A module is taken there with `.to("cuda")`, as on a GPU. Tensors made within have no data on the CPU either.
    """
    traffic = Traffic()
    was_overwriting = torch.__future__.get_overwrite_module_params_on_conversion()
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by `copy.deepcopy`
        for name, stand_in in STAND_INS.items():
            stack.enter_context(mock.patch(name, stand_in))
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter cannot lose its data in place
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, was_overwriting)
        stack.enter_context(_NoDriver(allow_non_fake_inputs=True))
        stack.enter_context(_Watch(traffic))
        yield traffic
