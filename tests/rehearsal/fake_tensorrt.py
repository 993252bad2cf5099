"""A stand-in for TensorRT: the documented calls of its Python package, on memory that a pretended GPU owns.

A plan is JSON: `batch`, a number or [smallest, largest], and `resolution`. It reads its input from the address that it
is given, and writes its outputs to those that it is given, so a wrong shape, address or order is seen in the numbers.
"""

import ctypes
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from rfdetr_hwd.export.tensorrt import _logger
from tests.rehearsal.pretended_device import pretended_cuda

Network = Callable[[Tensor], dict[str, Tensor]]
VERSION = "10.16.1.11"
CARD = SimpleNamespace(name="Card", total_memory=24 << 30, major=8, minor=6, uuid="12-ab")
FACTS = {"bit_depth": "12", "preprocessing": "as stored", "resize": "letterbox", "resolution": "4", "num_select": "3"}
"""Metadata of a model for images of 4 x 4 pixels."""


def compute(images: Tensor) -> dict[str, Tensor]:
    """Return boxes and logits of images of 4 x 4 pixels that depend on every pixel and on its place."""
    weights = torch.linspace(0, 1, 48).reshape(3, 4, 4)
    sums = (images * weights).sum(dim=(1, 2, 3))[:, None, None]
    return {"pred_boxes": sums * torch.ones(5, 4), "pred_logits": sums - torch.arange(15.0).reshape(5, 3)}


def write_engine(path: Path, batch: int | list[int] = 1, facts: Any = FACTS) -> Path:
    """Write an engine for images of 4 x 4 pixels, with metadata."""
    path.write_text(json.dumps({"batch": batch, "resolution": 4}))
    path.with_name(f"{path.name}.json").write_text(json.dumps(facts))
    return path


class DataType(Enum):
    """Types of tensors."""

    FLOAT = 0
    HALF = 1


@dataclass
class Stream:
    """A stream that notes what is queued on it, and what waits for it."""

    cuda_stream: int
    queued: list[str] = field(default_factory=list)

    def wait_stream(self, other: "Stream") -> None:
        """Wait for the work of another stream."""
        self.queued.append(f"wait for {other.cuda_stream}")


@dataclass
class FakeTensorRT:
    """What the stand-in did, and how it is to behave.

    Attributes:
        network: Computes `pred_boxes` and `pred_logits`.
        current: Torch's current stream: the default one, 0.
        own: The stream of an engine.
        names: Inputs and outputs of plans.
        types: Their types; float32 where there is none.
        runs: Whether a pass can be queued.
        takes_memory: Whether it takes the address of a tensor.
        device: The current CUDA device.
        has_memory: Whether there is memory for an execution context.
    """

    network: Network
    current: Stream = field(default_factory=lambda: Stream(0))
    own: Stream = field(default_factory=lambda: Stream(77))
    names: tuple[str, ...] = ("input", "dets", "labels")
    types: dict[str, DataType] = field(default_factory=dict)
    runs: bool = True
    takes_memory: bool = True
    device: int = 0
    has_memory: bool = True

    def module(self) -> ModuleType:
        """Return the package."""
        package: Any = ModuleType("tensorrt")
        package.__version__ = VERSION
        package.__spec__ = ModuleSpec("tensorrt", None)
        package.Logger = mock.Mock(ERROR=1)
        package.init_libnvinfer_plugins = mock.Mock(return_value=True)
        package.DataType = DataType
        package.BuilderFlag = SimpleNamespace(FP16=0)
        package.Runtime = lambda log: SimpleNamespace(deserialize_cuda_engine=self._deserialize)
        return package

    def _deserialize(self, plan: bytes) -> "_Engine | None":
        try:
            return _Engine(self, **json.loads(plan))
        except ValueError:  # as TensorRT: the reason is in its log alone
            return None

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """Make a device the current one."""
        before, self.device = self.device, device.index
        yield
        self.device = before


class _Engine:
    def __init__(self, package: FakeTensorRT, batch: int | list[int], resolution: int) -> None:
        self.package, self.resolution = package, resolution
        self.is_dynamic = isinstance(batch, list)
        self.smallest, self.largest = batch if isinstance(batch, list) else (batch, batch)
        self.num_io_tensors = len(package.names)
        self.device = package.device

    def get_tensor_name(self, index: int) -> str:
        return self.package.names[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.package.types.get(name, DataType.FLOAT)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "input"
        return (-1 if self.is_dynamic else self.largest, 3, self.resolution, self.resolution)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile, self.is_dynamic) == ("input", 0, True)
        return [(number, 3, self.resolution, self.resolution) for number in (self.smallest, 1, self.largest)]

    def create_execution_context(self) -> "_Context | None":
        return _Context(self) if self.package.has_memory else None


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine, self.package = engine, engine.package
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.shapes: dict[tuple[int, ...], dict[str, torch.Size]] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fits = self.engine.smallest <= shape[0] <= self.engine.largest
        if name != "input" or not fits or shape[1:] != (3, self.engine.resolution, self.engine.resolution):
            return False
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self.shape not in self.shapes:
            zeros = self.package.network(torch.zeros(self.shape))
            self.shapes[self.shape] = {"dets": zeros["pred_boxes"].shape, "labels": zeros["pred_logits"].shape}
        return tuple(self.shapes[self.shape][name])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return self.package.takes_memory

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self.package.device == self.engine.device, "an engine runs on the device that it was loaded on"
        assert stream_handle == self.package.own.cuda_stream, "TensorRT waits for the device on the default stream"
        self.package.own.queued.append("pass")
        if self.package.runs:
            outputs = self.package.network(torch.from_numpy(self._memory("input", self.shape).copy()))
            for name, key in (("dets", "pred_boxes"), ("labels", "pred_logits")):
                self._memory(name, tuple(outputs[key].shape))[:] = outputs[key].detach().numpy()
        return self.package.runs

    def _memory(self, name: str, shape: tuple[int, ...]) -> Any:
        numbers = (ctypes.c_float * int(np.prod(shape))).from_address(self.addresses[name])
        return np.frombuffer(numbers, dtype=np.float32).reshape(shape)


@contextmanager
def pretended_tensorrt(network: Network) -> Iterator[FakeTensorRT]:
    """Let there be TensorRT and a GPU, whose engines compute with a network."""
    package = FakeTensorRT(network)
    everything: Any = mock.Mock(return_value=True)
    with (
        pretended_cuda(),
        mock.patch.dict(sys.modules, {"tensorrt": package.module()}),
        mock.patch.multiple(
            torch.cuda,
            current_device=lambda: package.device,
            device=package.on,
            get_device_name=lambda device=None: "Card",
            get_device_properties=lambda device: CARD,
            device_count=lambda: 1,
            Stream=lambda device: package.own,
            current_stream=lambda device: package.current,
            synchronize=lambda device: None,
        ),
        mock.patch("rfdetr_hwd.export.artefact.is_installed", everything),
    ):
        try:
            yield package
        finally:
            _logger.cache_clear()
