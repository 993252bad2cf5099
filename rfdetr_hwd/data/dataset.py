"""Turn one image of a split into a sample: read, augmented, resized; an unreadable one is replaced or skipped."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch.utils.data import Dataset

from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.augmentation import PARTNER, Augmentation, augment, draw_seed
from rfdetr_hwd.data.batch import BadImage, Batch, Failure, PackedTargets
from rfdetr_hwd.data.corruptions import Corruption
from rfdetr_hwd.data.images import ImageError
from rfdetr_hwd.data.scene import Scene
from rfdetr_hwd.data.transforms import Resize, canvas_size, decoding_sizes, fit_image, fitted_size, normalise_boxes

ORDER, SCALE, AUGMENT, REPLACE, FILL = 0, 1, 2, 3, 4
"""Random streams, so that no two draws share entropy."""
_MAX_REPLACEMENTS = 20


class SampleKey(NamedTuple):
    """The key of a sample.

    Attributes:
        row: The image.
        epoch: The epoch.
        resolution: Input resolution in pixels.
        is_padding: As in `Batch`.
        visit: How often the image was used before in this epoch. Each visit has another augmentation.
        corruption: Corruption of the image, to evaluate robustness; `None`: the image as it is.
    """

    row: int
    epoch: int
    resolution: int
    is_padding: bool = False
    visit: int = 0
    corruption: Corruption | None = None


class DetectionDataset(Dataset[Batch | Failure]):
    """Reads, augments and preprocesses one image at a time.

    Args:
        data: The annotations.
        augmentation: Random changes; `None` for evaluation.
        resize: How an image is fitted into the model's square.
        on_bad_image: `quarantine` replaces an unreadable image in training by one that is drawn from (seed, epoch,
            image id), and skips it in evaluation. `fail` makes it an error.
    """

    def __init__(
        self,
        data: DetectionData,
        augmentation: Augmentation | None = None,
        resize: Resize = "stretch",
        on_bad_image: Literal["quarantine", "fail"] = "fail",
    ) -> None:
        self.data, self.augmentation = data, augmentation
        self.resize, self.on_bad_image = resize, on_bad_image

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: SampleKey) -> Batch | Failure:
        """Return a batch of one image, or an empty batch if it is skipped."""
        bad: list[BadImage] = []
        for row in self._rows(key):
            try:
                return self._load(row, key, bad)
            except ImageError as error:
                bad.append(self._bad_image(row, error))
                if self.on_bad_image == "fail":
                    return Failure(f"{self._name(row)}: {error}")
            except Exception as error:
                return Failure(f"{self._name(row)}: {error!r}")
        if self.augmentation is not None:
            return Failure(f"{len(bad)} images in a row cannot be read, the last: {bad[-1].reason}")
        nothing = torch.empty(0, 3, key.resolution, key.resolution, dtype=torch.uint8)
        return Batch(nothing, PackedTargets.pack([]), (), torch.empty(0, 2, 2), key.is_padding, tuple(bad))

    def _bad_image(self, row: int, error: ImageError) -> BadImage:
        return BadImage(int(self.data.image_ids[row]), str(self.data.path(row)), str(error))

    def _name(self, row: int) -> str:
        return f"image {self.data.image_ids[row]} of {self.data.name}"

    def _rows(self, key: SampleKey) -> Iterator[int]:
        """Yield the image, and in training its replacements."""
        yield key.row
        if self.augmentation is not None:
            image_id = int(self.data.image_ids[key.row]) % 2**64
            for attempt in range(_MAX_REPLACEMENTS):
                entropy = (REPLACE, self.augmentation.seed, key.epoch, image_id, attempt)
                yield draw_seed(entropy) % len(self.data)

    def _load(self, row: int, key: SampleKey, bad: list[BadImage]) -> Batch:
        """Return an image as a batch. Unreadable images are added to `bad`, unless it is the image itself."""
        image, image_id = self.data.read(row), int(self.data.image_ids[row])
        if key.corruption is not None:
            image = key.corruption.apply(image, image_id)
        sizes = decoding_sizes(image.height, image.width, key.resolution, self.resize)[None]
        boxes_xyxy, labels = (torch.from_numpy(array) for array in self.data.objects(row))
        if self.augmentation is not None:
            again = (key.visit,) if key.visit else ()
            entropy = (AUGMENT, self.augmentation.seed, key.epoch, image_id % 2**64, *again)
            is_mixed = key.epoch < self.augmentation.mixed_epochs
            partner = partial(self._partner, entropy, bad) if is_mixed else None
            image, boxes_xyxy, labels = augment(
                Scene(image, boxes_xyxy, labels), self.augmentation.parts, entropy, partner
            )
        form = image.height, image.width, key.resolution, self.resize
        packed = PackedTargets(labels, normalise_boxes(boxes_xyxy, *canvas_size(*form)), (len(labels),))
        fitted = (fitted_size(*form),) if self.resize == "letterbox" else ()
        pixels = fit_image(image, key.resolution, self.resize)[None]
        return Batch(pixels, packed, (image_id,), sizes, key.is_padding, tuple(bad), fitted)

    def _partner(self, entropy: Sequence[int], bad: list[BadImage], number: int) -> Scene:
        """Return an image to mix another one with, drawn from what that one is augmented by.

        Args:
            entropy: Of the other image.
            bad: Receives the images that cannot be read. Another one is drawn for each.
            number: Number of the partner.
        """
        for attempt in range(_MAX_REPLACEMENTS):
            row = draw_seed((PARTNER, number, attempt, *entropy)) % len(self.data)
            try:
                image = self.data.read(row)
            except ImageError as error:
                if self.on_bad_image == "fail":
                    raise
                bad.append(self._bad_image(row, error))
            else:
                boxes_xyxy, labels = (torch.from_numpy(array) for array in self.data.objects(row))
                return Scene(image, boxes_xyxy, labels)
        raise ImageError(f"{_MAX_REPLACEMENTS} images in a row cannot be read, the last: {bad[-1].reason}")
