"""The augmentation of training images: presets, whose parts can each be set. Imports neither torch nor rfdetr."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, model_validator

from rfdetr_hwd.config.section import Probability, Section

PRESET = "data.augment.preset"
"""Key of the preset. As an override it replaces the whole section, because a preset decides every part."""

_STANDARD: Mapping[str, Any] = {"scale": 0.5, "rotate": 0.5, "colour": 0.5}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": {"flip": 0.0, "crop": 0.0},
    "light": {},
    "standard": _STANDARD,
    "strong": {**_STANDARD, "mosaic": 0.5, "mixup": 0.1, "unmixed_epochs": 10},
    "aerial": {"vertical_flip": 0.5, "turn": 0.75},
}
"""The parts that each preset sets. The others have the defaults of the section, which are those of `light`."""

Strength = Annotated[float, Field(ge=0, lt=1)]


class AugmentSection(Section):
    """Augmentation of training images. It depends on seed, epoch and image id alone.

    A key that is not set has the value of the preset. The defaults are those of `light`.
    """

    preset: Literal["none", "light", "standard", "strong", "aerial"] = "light"
    """Values of the keys below that are not set. `none`: no change. `light`: flip and crop. `standard`: also scale,
    rotation and colour. `strong`: also mosaic and mixup. `aerial`: flips and quarter turns, for images without an
    upright direction. On the command line, a preset replaces all keys of this section in the file."""
    flip: Probability = 0.5
    """Probability of a horizontal flip."""
    crop: Probability = 0.5
    """Probability of a random crop, which is then resized to the input size."""
    min_crop: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Smallest crop, as a fraction of the image's width and height."""
    vertical_flip: Probability = 0.0
    """Probability of a vertical flip."""
    turn: Probability = 0.0
    """Probability of a turn by 90, 180 or 270 degrees, each as likely. 0.75 makes all four directions as likely."""
    scale: Probability = 0.0
    """Probability of scaling within the image's own size: a smaller image is placed on the mean colour, of a larger
    one a part is seen."""
    min_scale: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Smallest factor of the scaling."""
    max_scale: Annotated[float, Field(ge=1, le=4)] = 1.4
    """Largest factor of the scaling."""
    rotate: Probability = 0.0
    """Probability of a rotation about the centre. A box becomes the one around its rotated corners."""
    max_angle: Annotated[float, Field(ge=0, le=45)] = 8.0
    """Largest angle of the rotation in degrees, to either side."""
    colour: Probability = 0.0
    """Probability of a change of colour: of brightness, contrast, saturation and hue."""
    brightness: Strength = 0.25
    """Largest change of brightness. 0.25 draws a factor from 0.75 to 1.25."""
    contrast: Strength = 0.25
    """Largest change of contrast, as a fraction like the brightness."""
    saturation: Strength = 0.25
    """Largest change of saturation, as a fraction like the brightness."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.015
    """Largest change of hue, as a fraction of the colour circle."""
    mosaic: Probability = 0.0
    """Probability of a mosaic of the image and three others, drawn from the training split."""
    mixup: Probability = 0.0
    """Probability of blending the image with another one. The objects of both count."""
    unmixed_epochs: NonNegativeInt = 0
    """Last epochs of the run that are without mosaic and mixup."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        """Give each key that is not set the value of the preset, so that a run records what it did."""
        if not isinstance(values, Mapping):
            return values
        preset = values.get("preset", "light")
        return {**PRESETS.get(preset, {}), **values} if isinstance(preset, str) else values

    @property
    def is_mixing(self) -> bool:
        """Whether images are made of several."""
        return self.mosaic > 0 or self.mixup > 0

    def mixed_epochs(self, epochs: int) -> int:
        """Return how many epochs of a run, the first ones, have mosaic and mixup."""
        return max(0, epochs - self.unmixed_epochs) if self.is_mixing else 0
