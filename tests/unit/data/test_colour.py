"""Colours change within their ranges, and only with the probability that is set."""

import colorsys

import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.colour import change_colour

STILL = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def pixels(colour: tuple[int, int, int], parts: AugmentSection) -> list[tuple[int, int, int]]:
    image = PIL.Image.new("RGB", (2, 2), colour)
    return [change_colour(image, parts, np.random.default_rng(seed)).getpixel((0, 0)) for seed in range(60)]


def test_a_grey_image_becomes_brighter_or_darker() -> None:
    values = pixels((100, 100, 100), AugmentSection(colour=1.0, **{**STILL, "brightness": 0.5}))
    assert all(red == green == blue for red, green, blue in values)
    assert 50 <= min(values)[0] < 60
    assert 140 < max(values)[0] <= 150


def test_the_hue_alone_turns_on_the_circle() -> None:
    values = pixels((200, 50, 50), AugmentSection(colour=1.0, **{**STILL, "hue": 0.1}))
    hues = [(colorsys.rgb_to_hsv(*value)[0] + 0.5) % 1 - 0.5 for value in values]
    assert -0.11 < min(hues) < -0.06
    assert 0.06 < max(hues) < 0.11


def test_contrast_and_saturation_by_hand() -> None:
    """Saturation 0 would give the grey value of a colour: 0.299 R + 0.587 G + 0.114 B."""
    grey = 0.299 * 200 + 0.587 * 50 + 0.114 * 50
    for red, green, blue in pixels((200, 50, 50), AugmentSection(colour=1.0, **{**STILL, "saturation": 0.4})):
        factor = (red - grey) / (200 - grey)
        assert 0.59 < factor < 1.41
        assert green == blue == pytest.approx(grey + factor * (50 - grey), abs=2)


def test_it_is_as_likely_as_set() -> None:
    changed = [value != (100, 60, 20) for value in pixels((100, 60, 20), AugmentSection(colour=0.3))]
    assert 6 < sum(changed) < 32
