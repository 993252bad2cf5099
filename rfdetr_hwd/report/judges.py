"""Which model judged which images of a split."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.evaluation.detections import Detections


class JudgesError(UserError):
    """Images that no model judged, or several."""


@dataclass(frozen=True)
class Judge:
    """A model, with the images of a split that it judged.

    Attributes:
        name: Name of the model.
        checkpoint: Path of its checkpoint.
        weights: Its weights, `ema` or `raw`.
        step: Its step.
        has_trained: Whether it was trained on these images.
        image_ids: Ids of the images, shape (N,).
        ap: Its AP in them.
    """

    name: str
    checkpoint: str
    weights: str
    step: int
    has_trained: bool
    image_ids: NDArray[np.int64]
    ap: float | None


def join_judged(data: DetectionData, judged: Sequence[tuple[Judge, Detections]]) -> Detections:
    """Return the detections in a split whose images several models judged, each those of its own.

    Args:
        data: The split.
        judged: The models, with what they detected.

    Raises:
        JudgesError: An image was judged by no model, or by several.
    """
    ids, counts = np.unique(np.concatenate([judge.image_ids for judge, _ in judged]), return_counts=True)
    missing = np.setdiff1d(data.image_ids, ids)
    if len(missing) or (counts > 1).any() or len(ids) != len(data):
        raise JudgesError(
            f"the parts of {data.name} do not hold each of its {len(data)} images once: {len(missing)} are in none, "
            f"{int((counts > 1).sum())} in several. Train the folds again, in another --out"
        )
    return Detections.concatenate([found[np.isin(found.image_ids, judge.image_ids)] for judge, found in judged])


def mean_ap(judges: Sequence[Judge]) -> float | None:
    """Return the mean AP of the models that have one."""
    known = [judge.ap for judge in judges if judge.ap is not None]
    return float(np.mean(known)) if known else None
