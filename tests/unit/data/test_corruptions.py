import numpy as np
import PIL.Image
import pytest

from rfdetr_hwd.data.corruptions import KINDS, SEVERITIES, Corruption


def picture(height: int = 30, width: int = 44) -> PIL.Image.Image:
    """A picture with edges and colours."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([(x // 12 % 2) * 200 + 20, (y // 9 % 2) * 180 + 30, (x + y) % 256], axis=2)
    return PIL.Image.fromarray(pixels.astype(np.uint8))


def distance(one: PIL.Image.Image, other: PIL.Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_is_a_function_of_seed_and_image(kind: str) -> None:
    image = picture()
    once = Corruption(kind, 3).apply(image, 7)
    assert once.size == image.size
    assert once.mode == "RGB"
    assert distance(once, Corruption(kind, 3).apply(image, 7)) == 0
    if kind in ("gaussian_noise", "shot_noise", "motion_blur"):
        assert distance(once, Corruption(kind, 3).apply(image, 8)) > 0
        assert distance(once, Corruption(kind, 3, seed=1).apply(image, 7)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_severity_changes_more(kind: str) -> None:
    image = picture(96, 96)
    distances = [distance(image, Corruption(kind, severity).apply(image, 7)) for severity in SEVERITIES]
    assert 1 < distances[0] < distances[4]


def test_a_blur_keeps_the_mean_of_a_flat_picture() -> None:
    flat = PIL.Image.new("RGB", (40, 32), (90, 120, 30))
    for kind in ("defocus_blur", "motion_blur", "contrast", "pixelate"):
        assert distance(flat, Corruption(kind, 5).apply(flat, 1)) == 0


def test_brightness_raises_the_value_alone() -> None:
    image = PIL.Image.new("RGB", (2, 2), (102, 51, 0))  # value 0.4
    assert Corruption("brightness", 2).apply(image, 1).getpixel((0, 0)) == (153, 77, 0)  # value 0.6


def test_noise_has_the_published_deviation() -> None:
    grey = PIL.Image.new("RGB", (200, 200), (128, 128, 128))
    noisy = np.asarray(Corruption("gaussian_noise", 1).apply(grey, 1), float)
    assert noisy.std() == pytest.approx(0.08 * 255, rel=0.02)
