"""The built-in dataset of the demo and the tests: coloured shapes on textured backgrounds, drawn from a seed.

It is written in the layout of a Roboflow COCO export. Objects are small, medium and large in COCO's sense (areas below
32**2, between, above 96**2 pixels).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.random import Generator

CLASS_NAMES = ("circle", "square", "triangle", "star")
_HUES = (0.0, 0.33, 0.6, 0.13)
_SIDES = ((26, 31), (56, 92), (100, 130))  # small, medium and large objects, in pixels
_SHARES = (0.05, 0.55, 0.4)  # of them: a model that is trained for minutes finds few small ones
_SUPERSAMPLING = 3


@dataclass(frozen=True)
class ShapesSpec:
    """The contents of the dataset.

    Attributes:
        train: Images of the training split.
        valid: Images of the validation split.
        test: Images of the test split.
        width: Image width in pixels.
        height: Image height in pixels.
        max_objects: Largest number of objects in an image.
        seed: Random seed.
    """

    train: int = 432
    valid: int = 64
    test: int = 12
    width: int = 192
    height: int = 160
    max_objects: int = 5
    seed: int = 0


def write_shapes(root: Path, spec: ShapesSpec = ShapesSpec()) -> None:
    """Write the dataset: `train`, `valid` and `test` with `_annotations.coco.json` each.

    The same spec writes the same files, byte for byte, with the same version of Pillow.

    Args:
        root: Directory of the dataset, which is made if it is missing.
        spec: The contents.
    """
    for number, (split, count) in enumerate((("train", spec.train), ("valid", spec.valid), ("test", spec.test))):
        folder = root / split
        folder.mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        # Each image has its own generator: it does not depend on the images before it.
        for index in range(count):
            image, objects = draw_scene(np.random.default_rng([spec.seed, number, index]), spec)
            name = f"{split}_{index:05d}.jpg"
            image.save(folder / name, quality=90)
            images.append({"id": index, "file_name": name, "width": spec.width, "height": spec.height})
            annotations += [{"image_id": index, **instance} for instance in objects]
        content = {
            "info": {"description": "rfdetr_hwd shapes"},
            "categories": _categories(),
            "images": images,
            "annotations": [{"id": number, **annotation} for number, annotation in enumerate(annotations)],
        }
        (folder / "_annotations.coco.json").write_text(json.dumps(content), encoding="utf-8")


def draw_scene(rng: Generator, spec: ShapesSpec) -> tuple[PIL.Image.Image, list[dict[str, object]]]:
    """Draw one image.

    Args:
        rng: Random generator.
        spec: Size of the image and number of objects.

    Returns:
        The image, and for each object `category_id`, `bbox` (xywh in pixels), `area` and `iscrowd`.
    """
    image = _background(rng, spec)
    objects: list[dict[str, object]] = []
    taken: list[tuple[float, float, float, float]] = []
    for _ in range(int(rng.integers(1, spec.max_objects + 1))):
        # Draw size, position and class.
        low, high = _SIDES[rng.choice(len(_SIDES), p=_SHARES)]
        limit = min(spec.width, spec.height) - 4
        side = float(rng.uniform(min(low, 0.8 * limit), min(high, limit)))
        x, y = float(rng.uniform(1, spec.width - side - 1)), float(rng.uniform(1, spec.height - side - 1))
        label = int(rng.integers(len(CLASS_NAMES)))
        # Skip an object that hides another.
        if any(_overlap((x, y, side, side), other) > 0.1 for other in taken):
            continue
        taken.append((x, y, side, side))
        # Paint it, and take the box from its outline.
        outline = _outline(label, rng, side) + np.array([x, y])
        _paint(image, outline, _colour(label, rng))
        corner, extent = outline.min(axis=0), np.ptp(outline, axis=0)
        box = [round(float(value), 2) for value in (*corner, *extent)]
        objects.append({"category_id": label + 1, "bbox": box, "area": round(box[2] * box[3], 2), "iscrowd": 0})
    return image, objects


def _categories() -> list[dict[str, object]]:
    """Return the classes behind a grouping category 0, as Roboflow's exports have it."""
    grouping = {"id": 0, "name": "shapes", "supercategory": "none"}
    return [grouping, *({"id": i + 1, "name": n, "supercategory": "shapes"} for i, n in enumerate(CLASS_NAMES))]


def _background(rng: Generator, spec: ShapesSpec) -> PIL.Image.Image:
    """Return a greyish texture: noise at two scales, a tint, and a fine grain."""
    size = (spec.width, spec.height)
    texture = np.zeros((spec.height, spec.width))
    for cells, strength in ((3, 20.0), (20, 10.0)):
        coarse = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
        smooth = PIL.Image.fromarray(coarse).resize(size, PIL.Image.Resampling.BICUBIC)
        texture += (np.asarray(smooth, dtype=float) / 127.5 - 1) * strength
    pixels = (
        texture[..., None] + rng.normal(0, 6, (*texture.shape, 3)) + rng.uniform(100, 150) + rng.uniform(-15, 15, 3)
    )
    return PIL.Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _outline(label: int, rng: Generator, side: float) -> np.ndarray:
    """Return the polygon of a shape, shape (n, 2), within a square of `side` pixels."""
    turn, corners = float(rng.uniform(-0.35, 0.35)), {0: 48, 1: 4, 2: 3, 3: 10}[label]
    angles = turn + 2 * np.pi * np.arange(corners) / corners + (np.pi / 4 if label == 1 else -np.pi / 2)
    radius = np.where(np.arange(corners) % 2 == 0, 1.0, 0.42) if label == 3 else np.ones(corners)
    points: np.ndarray = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
    return (points + 1) * side / 2


def _colour(label: int, rng: Generator) -> tuple[int, int, int]:
    """Return a colour that correlates with the class, but does not determine it."""
    hue = (_HUES[label] + float(rng.normal(0, 0.04))) % 1
    pixel = PIL.Image.new("HSV", (1, 1), (int(hue * 255), int(rng.integers(150, 256)), int(rng.integers(130, 256))))
    red, green, blue = pixel.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
    return red, green, blue


def _paint(image: PIL.Image.Image, outline: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Fill a polygon, smoothed by supersampling."""
    corner = np.floor(outline.min(axis=0)).astype(int)
    width, height = (np.ceil(outline.max(axis=0)).astype(int) - corner + 1).tolist()
    mask = PIL.Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    points = [tuple(point) for point in ((outline - corner) * _SUPERSAMPLING).tolist()]
    PIL.ImageDraw.Draw(mask).polygon(points, fill=255)
    image.paste(colour, tuple(corner.tolist()), mask.reduce(_SUPERSAMPLING))


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Return the intersection of two xywh boxes as a fraction of the smaller one."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height) / min(a[2] * a[3], b[2] * b[3])
