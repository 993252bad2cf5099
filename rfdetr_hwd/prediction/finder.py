"""Find objects of the wanted classes in images: one model, its thresholds, a class filter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import supervision as sv

from rfdetr_hwd.detector import Detector, Threshold
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.prediction.tiles import Tiles


@dataclass(frozen=True)
class Finder:
    """Finds objects in images.

    Attributes:
        detector: The model.
        threshold: Its confidence threshold; see `Detector.predict`.
        labels: Labels that are kept; `None`: all.
        tiles: Detects in tiles; `None`: in whole images.
    """

    detector: Detector
    threshold: Threshold = None
    labels: frozenset[int] | None = None
    tiles: Tiles | None = None

    def find(self, images: Sequence[PIL.Image.Image]) -> list[sv.Detections]:
        """Return the detections of each image; see `Detector.predict`."""
        found = (self.tiles or self.detector).predict(images, self.threshold)
        return [self._keep(one) for one in found]

    def _keep(self, found: sv.Detections) -> sv.Detections:
        if self.labels is None:
            return found
        kept: sv.Detections = found[np.isin(found.class_id, list(self.labels))]
        return kept


def choose_labels(names: Sequence[str], class_names: Sequence[str]) -> frozenset[int] | None:
    """Return the labels of the classes that `--classes` names; `None` if it names none.

    Args:
        names: Names, or lists of names with commas in between.
        class_names: Class names in label order.

    Raises:
        ConfigError: A name is not that of a class.
    """
    if not names:
        return None
    # A class may have a comma in its name
    listed = [part for name in names for part in ([name] if name in class_names else name.split(","))]
    unknown = [name for part in listed if (name := part.strip()) not in class_names]
    if unknown:
        known = ", ".join(class_names)
        raise ConfigError(f"--classes: unknown class {', '.join(map(repr, unknown))}. The model knows: {known}")
    return frozenset(class_names.index(name.strip()) for name in listed)
