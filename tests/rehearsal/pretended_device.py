"""A CUDA device that is the CPU: tensors with data say that they are on it, so every branch for it is taken."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch_linear_assignment.assignment as solver
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.rehearsal.fake_device import Event

_CPU, _CUDA = torch.device("cpu"), torch.device("cuda", 0)
_IS_CUDA, _DEVICE = Tensor.is_cuda.__get__, Tensor.device.__get__


class _SaysCuda(TorchFunctionMode):
    """Lets every tensor say that it is on a CUDA device, and takes that device for the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == _IS_CUDA:
            return True
        if func == _DEVICE:
            return _CUDA
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        return func(*map(_real, args), **{key: _real(value) for key, value in (kwargs or {}).items()})


def _real(value: Any) -> Any:
    is_cuda = isinstance(value, torch.device) and value.type == "cuda"
    return _CPU if is_cuda or (isinstance(value, str) and value.startswith("cuda")) else value


STAND_INS: Mapping[str, Any] = {
    "torch.cuda.Event": Event,
    "torch.cuda.is_available": lambda: True,
    "torch.cuda.is_bf16_supported": lambda including_emulation=True: True,
    "torch.cuda.is_current_stream_capturing": lambda: False,
    "torch.accelerator.current_accelerator": lambda check_available=False: None,
    "torch.cuda.get_device_capability": lambda device=None: (9, 0),
    "torch.cuda.get_rng_state": torch.get_rng_state,
    "torch.cuda.set_rng_state": lambda state: None,
    "torch.cuda.empty_cache": lambda: None,
    "torch_linear_assignment.assignment.batch_linear_assignment_cuda": solver.batch_linear_assignment_cpu,
}
"""What is patched, because it needs a driver."""


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """Let every tensor be on a CUDA device, as far as anyone asks."""
    with ExitStack() as stack:
        for name, stand_in in STAND_INS.items():
            stack.enter_context(mock.patch(name, stand_in))
        stack.enter_context(_SaysCuda())
        yield
