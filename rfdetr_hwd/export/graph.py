"""A graph that is loaded into its runtime, and called like a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Array = np.ndarray[Any, Any]
INPUT, OUTPUTS = "input", ("dets", "labels")
"""Names in the graphs of rfdetr: the images, and the boxes and logits."""


@dataclass(frozen=True)
class Graph:
    """A graph that is loaded into its runtime; on the CPU, with as many threads as torch has.

    Attributes:
        run: Maps a batch (n, 3, R, R) on the device to boxes and logits.
        batch: The batch size that it takes; `None`: any.
        facts: The metadata of the file; see `rfdetr_hwd.export.metadata`.
        device: Where it runs.
        largest: The largest batch size that it takes, if it has a limit.
    """

    run: Callable[[Tensor], tuple[Tensor, Tensor]]
    batch: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    device: torch.device = torch.device("cpu")
    largest: int | None = None


class GraphNetwork(nn.Module):
    """A graph in its runtime that is called like a network.

    A graph of a fixed batch size gets whole batches: the last one is filled up, and what is filled up is cut off.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return `pred_boxes` (N, Q, 4) and `pred_logits` (N, Q, classes + 1) of images (N, 3, R, R)."""
        graph = self.graph
        missing = -len(images) % graph.batch if graph.batch else 0
        whole = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
        outputs = [graph.run(part) for part in whole.split(graph.batch or graph.largest or len(images))]
        boxes, logits = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        return {"pred_boxes": boxes[: len(images)], "pred_logits": logits[: len(images)]}
