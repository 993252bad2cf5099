"""Fixed tensors of a layer: kernels and filters that are not learned."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class Fixed(nn.Module):
    """A fixed tensor, kept in the type of a layer's weight and on its device.

    It is copied from the host when the layer is moved or cast, not in every forward pass: a copy makes the host wait
    for the GPU, and a CUDA graph refuses it. It is not a buffer, so it stays out of the state dict. A cast of the layer
    cannot round it for good, because each copy is made from the exact values.

    Args:
        exact: The values, float64, on the CPU.

    Example:
        >>> Fixed(torch.tensor([0.1], dtype=torch.float64))(torch.zeros(2)).dtype
        torch.float32
    """

    def __init__(self, exact: Tensor) -> None:
        super().__init__()
        self._exact: list[float] = exact.tolist()  # Python floats, which no cast and no copy touches
        self._kept = exact.to(torch.get_default_dtype())

    def forward(self, weight: Tensor) -> Tensor:
        """Return the tensor in the type and on the device of a weight."""
        if self._kept.dtype == weight.dtype and self._kept.device == weight.device:
            return self._kept
        copy = self._copy(weight)  # the weight was replaced, not moved
        if not torch.compiler.is_compiling():  # a traced tensor has no values
            self._kept = copy
        return copy

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a move or a cast of the layer."""
        self._kept = self._copy(fn(self._kept))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _copy(self, weight: Tensor) -> Tensor:
        with torch.inference_mode(False):  # an inference tensor could not be used in training later
            return torch.tensor(self._exact, dtype=weight.dtype, device=weight.device)
