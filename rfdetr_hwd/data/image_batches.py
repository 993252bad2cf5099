"""Images of a directory, found and decoded a few at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import PIL.Image

from rfdetr_hwd.data.deep_images import DeepValues, join_values
from rfdetr_hwd.data.images import IMAGE_SUFFIXES, ImageError, ReadOptions, measure_depth, read_image
from rfdetr_hwd.errors import ConfigError

_MEASURED = 200
"""Images whose bit depth is looked at."""
_BATCH = 8
_BATCH_PIXELS = 1 << 24
"""Limits of images and pixels that are decoded at once, which bound the memory."""

Decoded = tuple[Path, PIL.Image.Image]


def find_images(source: Path, out: Path) -> list[Path]:
    """Return the image files that a path stands for, sorted.

    Args:
        source: An image, or a directory that is searched recursively, except `out`.
        out: Output directory.

    Raises:
        ConfigError: There are none, or `out` holds the source.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ConfigError(f"there is no image or directory {source}")
    if source.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"--out {out} contains {source}: choose another output directory")
    try:
        images = [path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    except OSError as error:
        raise ConfigError(f"cannot read the directory {source}: {error}") from None
    paths = sorted(path for path in images if not path.resolve().is_relative_to(out.resolve()))
    if not paths:
        raise ConfigError(f"{source} contains no images ({', '.join(IMAGE_SUFFIXES)})")
    return paths


def measure_depths(paths: Sequence[Path]) -> DeepValues:
    """Return what the first images with more than 8 bits a channel hold; images that cannot be read are ignored."""
    found = []
    for path in paths[:_MEASURED]:
        with suppress(ImageError):
            found.append(measure_depth(path))
    return join_values(found)


def read_batches(
    paths: Iterable[Path], options: ReadOptions, skip: Callable[[ImageError], None]
) -> Iterator[list[Decoded]]:
    """Yield the images a few at a time, and large ones one at a time.

    Args:
        paths: Image files.
        options: How they are read.
        skip: Receives the error of each image that cannot be decoded and is skipped.
    """
    batch: list[Decoded] = []
    pixels = 0
    for path in paths:
        try:
            image = read_image(path, options=options)
        except ImageError as error:
            skip(error)
            continue
        batch.append((path, image))
        pixels += image.width * image.height
        if len(batch) == _BATCH or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
