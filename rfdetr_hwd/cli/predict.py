"""`rfdetr-hwd predict`: detect objects in an image or a folder of images."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image
import supervision as sv

from rfdetr_hwd.cli.legend import write_legend
from rfdetr_hwd.console import say
from rfdetr_hwd.data.images import IMAGE_SUFFIXES, ImageError, ReadOptions, read_image
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import ConfigError, UserError
from rfdetr_hwd.report.lettering import drawable_names
from rfdetr_hwd.report.pictures import draw_cell, draw_detections, tile_cells

_BATCH = 8
_BATCH_PIXELS = 1 << 24
"""Images that are decoded at once: so many, or as many as have so many pixels together, which bounds the memory."""
_COMPRESSION = 1
"""Of the PNG files: of a photograph it makes files 15 % larger than Pillow's own level, in a fifth of the time."""
_OVERVIEW, _COLUMNS, _SIDE = 12, 4, 320  # images of the overview, of its rows, pixels of each


class PredictionError(UserError):
    """Images that could not be read or drawn; what could be is written."""


@dataclass
class _Progress:
    """What has been done, in no more memory than a few thumbnails take."""

    images: int = 0
    detections: int = 0
    failed: int = 0
    cells: list[PIL.Image.Image] = field(default_factory=list)


def run(source: Path, weights: Path, out: Path, threshold: float, overrides: list[str]) -> None:
    """Write drawn images, `detections.json` and an overview picture.

    Images that cannot be read or drawn are named, and the others are done all the same.

    Args:
        source: An image, or a folder that is searched for images, with all folders in it but `out`.
        weights: Run folder (its best checkpoint) or checkpoint folder.
        out: Where the pictures and the JSON go.
        threshold: Lowest score to keep, in [0, 1].
        overrides: `key=value` assignments on the recorded configuration, such as `model.num_select`.

    Raises:
        UserError: What the user gave is wrong, or an image could not be read or drawn.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"--threshold {threshold} is not between 0 and 1")
    paths = _find_images(source, out)
    detector = Detector.load(weights, overrides=overrides)
    done = _Progress()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with _json_list(out / "detections.json") as write:
            names = drawable_names(detector.class_names)
            for batch in _batches(_read(paths, detector.options, done)):
                found = detector.predict([image for _, image in batch], threshold)
                for (path, image), detections in zip(batch, found, strict=True):
                    picture = out / _picture_name(path, source)
                    _draw(image, detections, names, path, picture, done)
                    write({"image": str(path), "picture": str(picture), "detections": _as_json(detections)})
        if done.cells:
            tile_cells(done.cells, _COLUMNS, _SIDE).save(out / "overview.png")
        write_legend(out, detector.class_names)
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {out}: {error.strerror or error}") from None
    if not done.images:
        raise ImageError(f"none of the {len(paths)} images of {source} can be decoded")
    say(f"{done.detections} detections in {done.images} of {len(paths)} images with {detector.weights} weights")
    say(f"pictures: {out}\noverview: {out / 'overview.png'}\ndetections: {out / 'detections.json'}")
    if done.failed:
        raise PredictionError(f"{done.failed} of {len(paths)} images could not be read or drawn; they are named above")


def _find_images(source: Path, out: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ConfigError(f"there is no image or folder {source}")
    if source.resolve().is_relative_to(out.resolve()):
        raise ConfigError(f"--out {out} holds {source}: pictures go into a folder of their own")
    try:
        images = [path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    except OSError as error:
        raise ConfigError(f"cannot read the folder {source}: {error}") from None
    paths = sorted(path for path in images if not path.resolve().is_relative_to(out.resolve()))
    if not paths:
        raise ConfigError(f"{source} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return paths


def _read(paths: Iterable[Path], options: ReadOptions, done: _Progress) -> Iterator[tuple[Path, PIL.Image.Image]]:
    """Decode images one by one; name those that cannot be, and leave them out."""
    for path in paths:
        try:
            yield path, read_image(path, options=options)
        except ImageError as error:
            say(f"left out: {error}")
            done.failed += 1


def _batches(
    images: Iterator[tuple[Path, PIL.Image.Image]],
) -> Iterator[list[tuple[Path, PIL.Image.Image]]]:
    """Yield the images a few at a time, and large ones one at a time; each list is emptied when it was used."""
    batch: list[tuple[Path, PIL.Image.Image]] = []
    pixels = 0
    for path, image in images:
        batch.append((path, image))
        pixels += image.width * image.height
        if len(batch) == _BATCH or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _draw(
    image: PIL.Image.Image, detections: sv.Detections, names: list[str], path: Path, picture: Path, done: _Progress
) -> None:
    """Write the picture of an image, and keep a thumbnail of the first ones."""
    done.images += 1
    done.detections += len(detections)
    if len(done.cells) < _OVERVIEW:
        done.cells.append(draw_cell(image, detections, names, _SIDE))
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_detections(image, detections, names).save(picture, compress_level=_COMPRESSION)
    except OSError as error:
        say(f"not drawn: {path}: {error.strerror or error}")
        done.failed += 1


@contextmanager
def _json_list(path: Path) -> Iterator[Callable[[object], None]]:
    """Write a list of JSON values one by one; whatever ends the block, the file holds those that were written."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        separator = "[\n"

        def write(value: object) -> None:
            nonlocal separator
            file.write(separator + json.dumps(value))
            separator = ",\n"

        try:
            yield write
        finally:
            file.write("\n]\n" if separator != "[\n" else "[]\n")
            file.flush()
            partial.replace(path)


def _picture_name(path: Path, source: Path) -> Path:
    """Return a path that no other image of the source has: its own below the source, and `.png`."""
    relative = path.relative_to(source) if source.is_dir() else Path(path.name)
    return relative.with_name(f"{relative.name}.png")


def _as_json(detections: sv.Detections) -> list[dict[str, Any]]:
    rows = zip(detections.xyxy.tolist(), detections.confidence.tolist(), detections["class_name"], strict=True)
    return [{"class": str(name), "score": score, "box_xyxy": box} for box, score, name in rows]
