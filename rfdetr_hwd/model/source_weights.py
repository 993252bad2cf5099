"""Trained weights to start from: read them, and derive levels and query groups from their keys."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rfdetr_hwd.errors import UserError, explaining
from rfdetr_hwd.files import UntrustedFileError, load_tensors
from rfdetr_hwd.model import rfdetr as upstream
from rfdetr_hwd.model.queries import count_groups

STAGE = re.compile(r"(.*projector\.stages(?:_sampling)?\.)(\d+)(\..*)")
"""Key of a tensor of the projector: prefix, stage, suffix."""


class WeightsError(UserError):
    """Weights that are missing, unreadable or do not fit."""


@dataclass(frozen=True)
class SourceWeights:
    """Trained weights to start from.

    Attributes:
        state: State dict of an RF-DETR network, stock or with a swapped downsampler.
        class_names: Class name of each row of the class head, as far as it is known.
        origin: Where they come from, for messages.
    """

    state: dict[str, Tensor]
    class_names: Sequence[str]
    origin: str

    @property
    def levels(self) -> tuple[str, ...]:
        """Feature levels, read off the resampling branches: P3 upsamples, P5 convolves, P4 has no parameter."""
        stages = sorted({int(m[2]) for key in self.state if (m := STAGE.match(key)) and ".stages." in m[1]})
        return tuple(self._level(stage) for stage in stages)

    @property
    def num_groups(self) -> int:
        """Query groups (Group DETR)."""
        return count_groups(self.state)

    def _level(self, stage: int) -> str:
        branch = f"stages_sampling.{stage}.0.0."
        kinds = [key.split(branch)[1] for key in self.state if branch in key]
        if not kinds:
            return "P4"
        return "P5" if any(kind.startswith(("conv.", "bn.")) for kind in kinds) else "P3"


def read_pth(path: Path) -> SourceWeights:
    """Read an RF-DETR `.pth` without running code from it.

    Args:
        path: Checkpoint of `rfdetr`, with the state dict under `model`.

    Raises:
        WeightsError: The file is not such a checkpoint, or holds objects other than tensors and plain values.
    """
    unsafe = f"{path} is not a checkpoint that can be loaded safely"
    with (
        explaining(FileNotFoundError, f"cannot read the weights {path}", WeightsError),
        explaining(UntrustedFileError, unsafe, WeightsError),
    ):
        content = load_tensors(path, [argparse.Namespace])
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is not an RF-DETR checkpoint: it has no state dict under 'model'")
    return SourceWeights(state, _recorded_class_names(content, state), str(path))


def _recorded_class_names(content: dict[str, Any], state: dict[str, Tensor]) -> list[str]:
    args = content.get("args")
    recorded = args.get("class_names") if isinstance(args, dict) else getattr(args, "class_names", None)
    if isinstance(recorded, list) and all(isinstance(name, str) for name in recorded):
        return recorded
    published = upstream.coco_class_names()
    head = state.get("class_embed.bias")
    return published if head is not None and len(head) == len(published) else []
