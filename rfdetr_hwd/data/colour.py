"""Random changes of colour: brightness, contrast, saturation, hue."""

import numpy as np
import PIL.Image
from torchvision.transforms.v2 import functional

from rfdetr_hwd.config.augmentation import AugmentSection


def change_colour(image: PIL.Image.Image, parts: AugmentSection, generator: np.random.Generator) -> PIL.Image.Image:
    """Return the image with other colours, with the probability of the configuration.

    Args:
        image: RGB image.
        parts: Probability and sizes of the changes.
        generator: Called the same number of times whatever is drawn.
    """
    is_changed = generator.random() < parts.colour
    strengths = np.array([parts.brightness, parts.contrast, parts.saturation])
    brightness, contrast, saturation = generator.uniform(1 - strengths, 1 + strengths).tolist()
    hue = float(generator.uniform(-parts.hue, parts.hue))
    if not is_changed:
        return image
    image = functional.adjust_brightness(image, brightness)
    image = functional.adjust_contrast(image, contrast)
    image = functional.adjust_saturation(image, saturation)
    return functional.adjust_hue(image, hue) if hue else image
