"""A dataset of random images whose files are about as large, and as slow to decode, as photos."""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

QUALITY, MAX_OBJECTS = 90, 15
GRIDS = (2, 4, 16, 64, 160)  # pixels between the random values that an image is interpolated from


def write_dataset(root: Path, num_images: int) -> float:
    """Write a Roboflow COCO dataset of images with the spectrum of photos; return the mean kB of a file."""
    rng, sizes = np.random.default_rng(0), []
    for split, count in (("train", num_images), ("valid", 1)):
        (root / split).mkdir()
        annotations: list[dict[str, Any]] = []
        for row in range(count):
            path = root / split / f"{row}.jpg"
            draw_image(rng).save(path, quality=QUALITY)
            sizes.append(path.stat().st_size / 1000)
            for _ in range(int(rng.integers(MAX_OBJECTS))):
                width, height = rng.uniform(8, 240, 2).tolist()
                x, y = rng.uniform(0, 640 - width), rng.uniform(0, 480 - height)
                box = {"bbox": [x, y, width, height], "area": width * height, "iscrowd": 0}
                label = {"image_id": row, "category_id": int(rng.integers(1, 4))}
                annotations.append({"id": len(annotations) + 1, **label, **box})
        images = [{"id": row, "file_name": f"{row}.jpg", "width": 640, "height": 480} for row in range(count)]
        categories = [{"id": label, "name": f"class {label}", "supercategory": "x"} for label in (1, 2, 3)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return round(statistics.mean(sizes), 1)


def draw_image(rng: np.random.Generator) -> PIL.Image.Image:
    """Return a random image of 640x480 whose coarse structures are stronger than its fine ones."""
    pixels = np.zeros((480, 640, 3))
    for grid in GRIDS:
        values = rng.uniform(-1, 1, (480 // grid + 2, 640 // grid + 2, 3)) * (1 - 1 / grid) * grid**0.3
        small = PIL.Image.fromarray(np.clip(values * 25 + 128, 0, 255).astype(np.uint8))
        pixels += np.asarray(small.resize((640, 480), PIL.Image.Resampling.BICUBIC), np.float64) - 128
    return PIL.Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))
