"""A step of which only the device knows yet whether it can be kept; the host learns of it without waiting."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rfdetr_hwd.training.non_finite import Suspects


class Answer:
    """A yes or no that a device is still to find; it comes to the host by itself."""

    def __init__(self, value: Tensor) -> None:
        self._on_host = value.to("cpu", non_blocking=True)
        self._event = torch.cuda.Event() if value.is_cuda else None
        if self._event is not None:
            self._event.record()

    def read(self) -> bool:
        """Return the answer. It waits until the device has found it."""
        if self._event is not None:
            self._event.synchronize()
        return bool(self._on_host)


@dataclass(frozen=True)
class Unsettled:
    """A step of which it is not known yet whether it can be kept.

    Attributes:
        is_broken: Whether its loss or gradient is non-finite on this rank.
        is_half_updated: Whether its update ran out of memory on this rank.
        suspects: What may have broken it.
    """

    is_broken: Answer
    is_half_updated: bool
    suspects: Suspects

    def flags(self) -> tuple[int, int]:
        """Return what this rank tells the others."""
        return int(self.is_broken.read()), int(self.is_half_updated)
