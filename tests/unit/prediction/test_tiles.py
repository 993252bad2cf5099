"""Detections of tiles are those of the whole image, each once, in its pixels."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
import pytest
import supervision as sv

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.prediction.tiles import Tiles

COLOURS = {(255, 0, 0): 0, (0, 0, 255): 1}


class ColourDetector:
    """Finds the red and the blue rectangle of an image of at most 100 pixels, the surer the more of it is visible."""

    resolution = 50
    class_names = ("red", "blue")

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def predict(self, images: Sequence[np.ndarray], threshold: float) -> list[sv.Detections]:
        assert len(images) <= 8
        return [self._find(image, threshold) for image in images]

    def _find(self, image: np.ndarray, threshold: float) -> sv.Detections:
        self.sizes.append(image.shape[:2])
        rows = []
        for colour, label in COLOURS.items():
            ys, xs = np.nonzero((image == colour).all(axis=2))
            if len(ys) / 1000 >= threshold and len(ys):
                rows.append((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, len(ys) / 1000, label))
        table = np.array(rows, np.float32).reshape(-1, 6)
        found = sv.Detections(table[:, :4], confidence=table[:, 4], class_id=table[:, 5].astype(int))
        found.data["class_name"] = np.array(self.class_names)[found.class_id]
        return found


def image(size: tuple[int, int] = (230, 170)) -> PIL.Image.Image:
    picture = PIL.Image.new("RGB", size)
    picture.paste((255, 0, 0), (90, 20, 110, 40))  # 20 pixels across the border of two tiles
    picture.paste((0, 0, 255), (10, 150, 30, 165))
    return picture


def test_an_object_at_a_border_is_found_once_and_whole() -> None:
    detector = ColourDetector()
    found, nothing = Tiles(detector, 100, 0.3).predict([image(), PIL.Image.new("RGB", (230, 170))], 0.0)  # type: ignore[arg-type]
    assert found.xyxy.tolist() == [[90, 20, 110, 40], [10, 150, 30, 165]]
    assert found.class_id.tolist() == [0, 1]
    assert found.data["class_name"].tolist() == ["red", "blue"]
    np.testing.assert_allclose(found.confidence, [0.4, 0.3])
    assert (len(nothing), len(nothing.data["class_name"])) == (0, 0)
    assert set(detector.sizes) == {(100, 100)}
    assert len(detector.sizes) == 2 * 3 * 2


@pytest.mark.parametrize(("overlap", "labels"), [(0.0, [1, 0, 0]), (0.2, [0, 1]), (0.9, [0, 1])])
def test_tiles_cover_the_image_and_are_never_narrow(overlap: float, labels: list[int]) -> None:
    """Without overlap, an object at a border is found in two parts."""
    detector = ColourDetector()
    (found,) = Tiles(detector, 100, overlap).predict([image()], 0.0)  # type: ignore[arg-type]
    assert set(detector.sizes) == {(100, 100)}
    assert found.class_id.tolist() == labels
    (small,) = Tiles(detector, 100, overlap).predict([image((60, 50))], 0.35)  # type: ignore[arg-type]
    assert detector.sizes[-1] == (50, 60)
    assert len(small) == 0


def test_tiles_smaller_than_the_model_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="--tiles 49 is smaller than the model's input of 50 pixels: give at least 50"
    ):
        Tiles(ColourDetector(), 49, 0.2)  # type: ignore[arg-type]
    for overlap in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="--overlap .* give at least 0 and less than 1"):
            Tiles(ColourDetector(), 50, overlap)  # type: ignore[arg-type]
