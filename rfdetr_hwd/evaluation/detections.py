"""Detections of a split, as arrays from the network to the result file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_MAX_TABLE = 1 << 22
"""Largest span of ids that are found in a table, which takes a tenth of the time of a search."""


def find_positions(ids: NDArray[np.int64], known: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the position of each id among known ids, which ascend, and whether it is one of them.

    The position of an unknown id has no meaning.
    """
    if not len(known):
        return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
    low, high = int(known[0]), int(known[-1])
    if high - low < _MAX_TABLE:
        table = np.full(high - low + 1, -1, np.int64)
        table[known - low] = np.arange(len(known))
        position = table[np.clip(ids, low, high) - low]
        return position, (position >= 0) & (ids >= low) & (ids <= high)
    position = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return position, known[position] == ids


@dataclass(frozen=True)
class Detections:
    """Detections of many images.

    Attributes:
        image_ids: The dataset's image ids, shape (N,), int64.
        category_ids: The dataset's category ids, shape (N,), int64.
        boxes_xywh: Boxes in pixels of the annotated image, shape (N, 4), float64.
        scores: Confidences, shape (N,), float64.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: NDArray[Any] | slice) -> "Detections":
        """Return the detections at an index: a slice, positions or a mask."""
        return Detections(self.image_ids[index], self.category_ids[index], self.boxes_xywh[index], self.scores[index])

    @classmethod
    def none(cls) -> Self:
        """Return no detections."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))

    @classmethod
    def concatenate(cls, parts: Sequence["Detections"]) -> Self:
        """Return the detections of all parts, in their order."""
        if not parts:
            return cls.none()
        return cls(
            np.concatenate([part.image_ids for part in parts]),
            np.concatenate([part.category_ids for part in parts]),
            np.concatenate([part.boxes_xywh for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )

    @classmethod
    def from_results(cls, results: Sequence[Mapping[str, Any]]) -> Self:
        """Return the detections of COCO's results format: image_id, category_id, bbox (xywh in pixels), score."""
        return cls(
            np.array([result["image_id"] for result in results], np.int64),
            np.array([result["category_id"] for result in results], np.int64),
            np.array([result["bbox"] for result in results], np.float64).reshape(-1, 4),
            np.array([result["score"] for result in results], np.float64),
        )

    def to_results(self) -> list[dict[str, Any]]:
        """Return the detections in COCO's results format."""
        rows = zip(
            self.image_ids.tolist(),
            self.category_ids.tolist(),
            self.boxes_xywh.tolist(),
            self.scores.tolist(),
            strict=True,
        )
        return [
            {"image_id": image, "category_id": category, "bbox": box, "score": score}
            for image, category, box, score in rows
        ]
