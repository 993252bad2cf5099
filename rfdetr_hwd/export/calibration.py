"""The training images that a graph is calibrated on, chosen by a seed."""

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.batch import Batch, join, unlabelled
from rfdetr_hwd.data.images import ImageError
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export.graph import Array

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """Images as the model sees them, without augmentation, in batches that a graph takes.

    Attributes:
        images: The images, as uint8.
        batch: Images of a batch. The last batch is filled up with images from the first.
    """

    images: Batch
    batch: int = 1

    def __len__(self) -> int:
        return -(-len(self.images.image_ids) // self.batch)

    def __iter__(self) -> Iterator[Array]:
        """Yield normalised batches, (batch, 3, R, R) float32."""
        singles = self.images.split(1)
        for start in range(0, len(singles), self.batch):
            part = [singles[row % len(singles)] for row in range(start, start + self.batch)]
            yield join(part).to(torch.device("cpu")).images.numpy()


def read_calibration(detector: Detector, data: DetectionData, wanted: int, seed: int, batch: int = 1) -> Calibration:
    """Read images of a split in an order that the seed decides. Unreadable images are skipped with a warning.

    Args:
        detector: The trained model, for its preprocessing.
        data: The training split.
        wanted: Number of images; all readable images if there are fewer.
        seed: Random seed.
        batch: Images that the graph takes at once.

    Raises:
        ConfigError: No image can be read.
    """
    rows = np.random.default_rng(seed).permutation(len(data)).tolist()
    images = list(itertools.islice(_readable(detector, data, rows), wanted))
    if not images:
        raise ConfigError(f"--quantize int8: the split {data.name} of {data.images} has no images to calibrate on")
    return Calibration(join(images), batch)


def _readable(detector: Detector, data: DetectionData, rows: list[int]) -> Iterator[Batch]:
    for row in rows:
        try:
            yield unlabelled(data.read(row), detector.resolution, detector.model.resize)
        except ImageError as error:
            logger.warning("skipped in the calibration: %s", error)
