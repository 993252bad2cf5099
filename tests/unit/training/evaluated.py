"""An evaluation that has just measured two small images."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image

from rfdetr_hwd.evaluation.detections import Detections


def evaluated() -> Any:
    """Return what `draw_predictions` reads of an `Evaluation`: two grey images, and EMA and raw detections."""
    data = SimpleNamespace(
        image_ids=np.array([7, 9]),
        category_ids=(3, 5),
        class_names=("cell", "ring"),
        read=lambda row: PIL.Image.new("RGB", (40, 20), (128, 128, 128)),
    )
    found = Detections(np.array([7, 9]), np.array([5, 3]), np.array([[4.0, 4, 10, 8]] * 2), np.array([0.9, 0.5]))
    return SimpleNamespace(
        found={"raw": Detections.none(), "ema": found},
        loader=SimpleNamespace(dataset=SimpleNamespace(data=_Sized(data))),
    )


class _Sized:
    """A namespace with a length."""

    def __init__(self, content: SimpleNamespace) -> None:
        self.__dict__.update(vars(content))

    def __len__(self) -> int:
        return len(self.__dict__["image_ids"])
