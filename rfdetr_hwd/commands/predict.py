"""`rfdetr-hwd predict`: detect objects in an image or a folder of images."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import supervision as sv

from rfdetr_hwd.commands.legend import write_legend
from rfdetr_hwd.data.images import IMAGE_SUFFIXES, ImageError, read_image
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.report.lettering import drawable_names
from rfdetr_hwd.report.pictures import draw_detections, draw_overview
from rfdetr_hwd.terminal import say

_BATCH = 8
_OVERVIEW = 12


def run(source: Path, weights: Path, out: Path, threshold: float) -> None:
    """Write drawn images, `detections.json` and an overview picture.

    Args:
        source: An image, or a folder that is searched for images, with all folders in it but `out`.
        weights: Run folder (its best checkpoint) or checkpoint folder.
        out: Where the pictures and the JSON go.
        threshold: Lowest score to keep, in [0, 1].

    Raises:
        UserError: What the user gave is wrong.
    """
    if not 0 <= threshold <= 1:
        raise ConfigError(f"--threshold {threshold} is not between 0 and 1")
    paths = _find_images(source, out)
    detector = Detector.load(weights)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {out}: {error.strerror}") from None
    names = drawable_names(detector.class_names)
    entries: list[dict[str, Any]] = []
    shown: list[tuple[PIL.Image.Image, sv.Detections]] = []
    for start in range(0, len(paths), _BATCH):
        readable = _read(paths[start : start + _BATCH])
        if not readable:
            continue
        results = detector.predict([image for _, image in readable], threshold)
        for (path, image), detections in zip(readable, results, strict=True):
            picture = draw_detections(image, detections, names)
            target = out / _picture_name(path, source)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                picture.save(target)
            except OSError as error:
                say(f"not drawn: {path}: {error.strerror or error}")
            entries.append({"image": str(path), "picture": str(target), "detections": _as_json(detections)})
            shown = [*shown, (image, detections)][:_OVERVIEW]
    if not entries:
        raise ImageError(f"none of the {len(paths)} images of {source} can be decoded")
    try:
        (out / "detections.json").write_text(json.dumps(entries, indent=2), encoding="utf-8")
        draw_overview(shown, names, columns=4, side=320).save(out / "overview.png")
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {out}: {error.strerror or error}") from None
    write_legend(out, detector.class_names)
    found = sum(len(entry["detections"]) for entry in entries)
    say(f"{found} detections in {len(entries)} of {len(paths)} images with {detector.weights} weights")
    say(f"pictures: {out}\noverview: {out / 'overview.png'}\ndetections: {out / 'detections.json'}")


def _find_images(source: Path, out: Path) -> list[Path]:
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ConfigError(f"there is no image or folder {source}")
    images = (path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    paths = sorted(path for path in images if not path.resolve().is_relative_to(out.resolve()))
    if not paths:
        raise ConfigError(f"{source} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return paths


def _read(paths: list[Path]) -> list[tuple[Path, PIL.Image.Image]]:
    """Decode images; say which cannot be, and leave them out."""
    readable = []
    for path in paths:
        try:
            readable.append((path, read_image(path)))
        except ImageError as error:
            say(f"left out: {error}")
    return readable


def _picture_name(path: Path, source: Path) -> Path:
    """Return a path that no other image of the source has: its own below the source, and `.png`."""
    relative = path.relative_to(source) if source.is_dir() else Path(path.name)
    return relative.with_name(f"{relative.name}.png")


def _as_json(detections: sv.Detections) -> list[dict[str, Any]]:
    rows = zip(detections.xyxy.tolist(), detections.confidence.tolist(), detections["class_name"], strict=True)
    return [{"class": str(name), "score": score, "box_xyxy": box} for box, score, name in rows]
