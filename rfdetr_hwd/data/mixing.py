"""Images made of several: a mosaic of four (Bochkovskiy et al., YOLOv4, 2020), and mixup (Zhang et al., ICLR 2018)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.scene import Scene
from rfdetr_hwd.data.warping import MIN_VISIBLE

_CENTRE = (0.3, 0.7)  # where the four images of a mosaic meet, as fractions of its width and height
_MAX_ZOOM = 2.0  # of an image beyond covering its tile, so that objects are not only smaller than in single images
_CONCENTRATION = 8.0  # of mixup's Beta distribution: the images weigh nearly the same


class View(NamedTuple):
    """The part of an image that fills a tile.

    Attributes:
        zoom: Enlargement, from 1, beyond the smallest image that covers the tile.
        across: Where the seen part lies, from 0 at the left to 1 at the right.
        down: The same from the top to the bottom.
    """

    zoom: float = 1.0
    across: float = 0.5
    down: float = 0.5


def mix(scene: Scene, parts: AugmentSection, generator: np.random.Generator, partner: Callable[[int], Scene]) -> Scene:
    """Return the image mixed with others, with the probabilities of the configuration. It keeps its size.

    Args:
        scene: The image.
        parts: Probabilities of the changes.
        generator: Called the same number of times whatever is drawn.
        partner: Returns the other images: 0 to 2 for a mosaic, 3 for mixup. It is called only if they are needed.
    """
    is_mosaic, is_mixed = generator.random(2) < (parts.mosaic, parts.mixup)
    across, down = generator.uniform(*_CENTRE, 2) * scene.image.size
    zooms, places = generator.uniform(1, _MAX_ZOOM, 4), generator.random((4, 2))
    tiles = generator.permutation(4)
    ratio = float(generator.beta(_CONCENTRATION, _CONCENTRATION))
    if is_mosaic:
        scenes = [scene, *map(partner, range(3))]
        views = [View(zoom, *place) for zoom, place in zip(zooms.tolist(), places.tolist(), strict=True)]
        scene = mosaic([scenes[tile] for tile in tiles], scene.image.size, (round(across), round(down)), views)
    return mixup(scene, partner(3), ratio) if is_mixed else scene


def mosaic(scenes: Sequence[Scene], size: tuple[int, int], centre: tuple[int, int], views: Sequence[View]) -> Scene:
    """Return four images side by side.

    Args:
        scenes: The images at the top left, top right, bottom left and bottom right.
        size: (width, height) of the mosaic in pixels.
        centre: (x, y) in pixels where they meet.
        views: The part of each image that is seen.
    """
    (width, height), (x, y) = size, centre
    canvas = PIL.Image.new("RGB", size)
    boxes_xyxy, labels = [], []
    tiles = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    for scene, (left, top, right, bottom), view in zip(scenes, tiles, views, strict=True):
        if right <= left or bottom <= top:  # of an image that is one pixel wide or high
            continue
        tile = fill_tile(scene, right - left, bottom - top, view)
        canvas.paste(tile.image, (left, top))
        boxes_xyxy.append(tile.boxes_xyxy + tile.boxes_xyxy.new_tensor([left, top, left, top]))
        labels.append(tile.labels)
    return Scene(canvas, torch.cat(boxes_xyxy), torch.cat(labels))


def mixup(scene: Scene, other: Scene, ratio: float) -> Scene:
    """Return an image blended with another one, which fills it. The objects of both are kept.

    Args:
        scene: The image.
        other: The other one.
        ratio: Weight of the other one, from 0 to 1.
    """
    other = fill_tile(other, *scene.image.size, View())
    return Scene(
        PIL.Image.blend(scene.image, other.image, ratio),
        torch.cat([scene.boxes_xyxy, other.boxes_xyxy]),
        torch.cat([scene.labels, other.labels]),
    )


def fill_tile(scene: Scene, width: int, height: int, view: View) -> Scene:
    """Return the part of an image that fills a tile, with its aspect ratio kept.

    Args:
        scene: The image.
        width: Of the tile, in pixels.
        height: Of the tile, in pixels.
        view: Which part is seen.
    """
    scale = view.zoom * max(width / scene.image.width, height / scene.image.height)
    seen_width, seen_height = min(width / scale, scene.image.width), min(height / scale, scene.image.height)
    left, top = view.across * (scene.image.width - seen_width), view.down * (scene.image.height - seen_height)
    right, bottom = min(left + seen_width, scene.image.width), min(top + seen_height, scene.image.height)  # rounding
    image = scene.image.resize((width, height), PIL.Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    boxes_xyxy = (scene.boxes_xyxy - scene.boxes_xyxy.new_tensor([left, top, left, top])) * scale
    return Scene(image, boxes_xyxy, scene.labels).within_image(MIN_VISIBLE)
