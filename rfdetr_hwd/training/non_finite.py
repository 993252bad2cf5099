"""A non-finite step: the error, and the images and loss terms that may have caused it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rfdetr_hwd.data.batch import Batch
from rfdetr_hwd.runtime.distributed import all_gather_objects, max_over_ranks


class NonFiniteError(Exception):
    """A non-finite loss or gradient on any rank. It is raised on every rank; the weights are from before the step.

    Attributes:
        ranks: For each rank the images of its micro-batches with a non-finite term, and its loss terms. All images, if
            every term is finite and only the gradient is not.
        suspects: What this rank put into the step.
    """

    def __init__(self, ranks: Sequence[tuple[tuple[int, ...], dict[str, float]]], suspects: "Suspects") -> None:
        named = [(image_ids, terms) for image_ids, terms in ranks if image_ids]
        images = [image_id for image_ids, _ in named for image_id in image_ids]
        super().__init__(f"images {images}, loss terms {' and '.join(str(terms) for _, terms in named)}")
        self.ranks, self.suspects = list(ranks), suspects


@dataclass(frozen=True)
class Suspects:
    """What this rank put into a step, and the loss terms that came of it.

    Attributes:
        micro_batches: Its micro-batches.
        passes: The loss terms of each.
        random: The random state before the step.
    """

    micro_batches: Sequence[Batch]
    passes: Sequence[dict[str, Tensor]]
    random: dict[str, Any]

    def error(self) -> NonFiniteError:
        """Return the error that names them; every rank calls it in the same place."""
        totals = {name: float(torch.stack([terms[name] for terms in self.passes]).sum()) for name in self.passes[0]}
        return NonFiniteError(all_gather_objects((self._image_ids(), totals)), self)

    def _image_ids(self) -> tuple[int, ...]:
        """Return the images of the micro-batches with a non-finite term; all images if no rank has such a term."""
        broken = [not all(bool(torch.isfinite(value)) for value in terms.values()) for terms in self.passes]
        is_loss_broken = max_over_ranks(int(any(broken)))
        return tuple(
            image_id
            for batch, is_broken in zip(self.micro_batches, broken, strict=True)
            if is_broken or not is_loss_broken
            for image_id in batch.image_ids
        )
