"""Image corruptions of a robustness evaluation, as functions of the seed and the image id.

The families and severities are those of Hendrycks and Dietterich (2019), "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations", as Michaelis et al. (2019), "Benchmarking Robustness in Object Detection", apply
them to COCO. Weather is left out: snow, frost and fog need textures.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
from numpy.typing import NDArray

Pixels = NDArray[np.float64]
"""An RGB image (H, W, 3) in [0, 1]."""

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """A corruption of every image of a split.

    Attributes:
        kind: One of `KINDS`.
        severity: 1 (mild) to 5.
        seed: Seed of its random parts.
    """

    kind: str
    severity: int
    seed: int = 0

    def apply(self, image: PIL.Image.Image, image_id: int) -> PIL.Image.Image:
        """Return the corrupted image, of the same size."""
        entropy = (self.seed, [*KINDS].index(self.kind), self.severity, image_id % 2**64)
        random = np.random.default_rng(np.random.SeedSequence(entropy))
        pixels = np.asarray(image, np.float64) / 255
        corrupted = KINDS[self.kind](pixels, self.severity - 1, random)
        return PIL.Image.fromarray((255 * np.clip(corrupted, 0, 1)).round().astype(np.uint8))


def _gaussian_noise(pixels: Pixels, level: int, random: np.random.Generator) -> Pixels:
    return pixels + random.normal(scale=(0.08, 0.12, 0.18, 0.26, 0.38)[level], size=pixels.shape)


def _shot_noise(pixels: Pixels, level: int, random: np.random.Generator) -> Pixels:
    photons = (60, 25, 12, 5, 3)[level]
    return random.poisson(photons * pixels) / photons


def _defocus_blur(pixels: Pixels, level: int, random: np.random.Generator) -> Pixels:
    radius = (3, 4, 6, 8, 10)[level]
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return _convolve(pixels, (x**2 + y**2 <= radius**2).astype(np.float64))


def _motion_blur(pixels: Pixels, level: int, random: np.random.Generator) -> Pixels:
    radius = (5, 8, 8, 10, 10)[level]
    angle = random.uniform(-np.pi / 4, np.pi / 4)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.abs(x * np.sin(angle) - y * np.cos(angle))  # from a line through the centre
    is_within = x**2 + y**2 <= radius**2
    return _convolve(pixels, np.clip(1 - distance, 0, 1) * is_within)


def _brightness(pixels: Pixels, level: int, random: np.random.Generator) -> Pixels:
    """Raise the value of HSV, which keeps hue and saturation."""
    value = pixels.max(axis=2, keepdims=True)
    raised = np.minimum(value + (0.1, 0.2, 0.3, 0.4, 0.5)[level], 1)
    brighter: Pixels = np.where(value > 0, pixels * raised / np.maximum(value, 1e-9), raised)
    return brighter


def _contrast(pixels: Pixels, level: int, random: np.random.Generator) -> Pixels:
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    flattened: Pixels = (pixels - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[level] + mean
    return flattened


def _pixelate(pixels: Pixels, level: int, random: np.random.Generator) -> Pixels:
    image = _as_image(pixels)
    fraction = (0.6, 0.5, 0.4, 0.3, 0.25)[level]
    small = max(1, round(image.width * fraction)), max(1, round(image.height * fraction))
    resampling = PIL.Image.Resampling
    return np.asarray(image.resize(small, resampling.BOX).resize(image.size, resampling.NEAREST), np.float64) / 255


def _jpeg_compression(pixels: Pixels, level: int, random: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    _as_image(pixels).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[level])
    return np.asarray(PIL.Image.open(file), np.float64) / 255


KINDS: dict[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "defocus_blur": _defocus_blur,
    "motion_blur": _motion_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
"""The corruptions by name. Each maps pixels, a level from 0 to 4 and a random generator to pixels."""


def _convolve(pixels: Pixels, kernel: Pixels) -> Pixels:
    """Convolve every channel with a square kernel, normalised to a sum of 1. The border is extended."""
    from scipy.signal import oaconvolve  # its import takes a third of a second, which training does not need

    radius = kernel.shape[0] // 2
    padded = np.pad(pixels, ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    blurred: Pixels = oaconvolve(padded, kernel[:, :, None] / kernel.sum(), mode="valid", axes=(0, 1))
    return blurred


def _as_image(pixels: Pixels) -> PIL.Image.Image:
    return PIL.Image.fromarray((255 * pixels).round().astype(np.uint8))
