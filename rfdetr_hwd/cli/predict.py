"""`rfdetr-hwd predict`: detect objects in images and videos."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rfdetr_hwd.cli.options import TileOverlap, TileSize, WeightsPath
from rfdetr_hwd.console import say
from rfdetr_hwd.errors import ConfigError, Interrupted, UserError, explaining, writing
from rfdetr_hwd.files import check_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.prediction.finder import Finder
    from rfdetr_hwd.prediction.outputs import Outputs
    from rfdetr_hwd.prediction.sources import Source
    from rfdetr_hwd.prediction.tracking import Tracking


class PredictionError(UserError):
    """Some images could not be read, or results not written. The results of the others are written."""


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE... [KEY=VALUE]...",
            help="Images, videos, directories, globs, URLs, the number of a camera, - for a list on stdin; overrides.",
        ),
    ],
    weights: WeightsPath,
    out: Annotated[Path, typer.Option(help="Directory for the results.")] = Path("predictions"),
    format: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,NAME...",
            help="What is written: pictures, json, coco, yolo, csv, crops.",
            show_default="pictures,json",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None, typer.Option(metavar="NAME,NAME...", help="Classes to keep.", show_default="all")
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Confidence threshold in [0, 1], or per-class for that of the best F1 of each class.",
            show_default="that of the best F1 on the validation images; 0.5 if it is not recorded",
        ),
    ] = None,
    tiles: TileSize = None,
    overlap: TileOverlap = 0.2,
    track: Annotated[bool, typer.Option("--track", help="Follow objects through videos, with ByteTrack.")] = False,
    ground_truth: Annotated[
        Path | None, typer.Option(help="COCO annotations whose ids coco then has, in a file for `report`.")
    ] = None,
) -> None:
    """Detect objects in images and videos, and draw or list them.

    What cannot be read is reported and skipped, and the exit status is 1.
    """
    from rfdetr_hwd.data.coco.ground_truth import read_annotations
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.prediction.finder import Finder, choose_labels
    from rfdetr_hwd.prediction.outputs import Outputs, choose_formats
    from rfdetr_hwd.prediction.sources import find_sources
    from rfdetr_hwd.prediction.tiles import Tiles
    from rfdetr_hwd.prediction.tracking import Tracking, candidate_thresholds

    # Check the options, find the images, and load the model
    wanted, formats = _read_threshold(threshold), choose_formats(format or [])
    if ground_truth and "coco" not in formats:
        raise ConfigError("--ground-truth is for the ids of --format coco: add it, or remove --ground-truth")
    words, overrides = _split_words(sources)
    check_directory("--out", out)
    found = find_sources(words, out, sys.stdin)
    detector = Detector.load(weights, overrides=overrides)
    labels = choose_labels(classes or [], detector.class_names)
    in_tiles = Tiles(detector, tiles, overlap) if tiles is not None else None
    thresholds = _thresholds(detector, wanted)
    tracking = Tracking(thresholds, detector.class_names) if track else None
    finder = Finder(detector, candidate_thresholds(thresholds) if track else thresholds, labels, in_tiles)
    data = read_annotations(ground_truth) if ground_truth else None

    # Detect and write, a few images at a time
    with writing("--out", out):
        outputs = Outputs(out, detector.class_names, formats, data)
    with (
        explaining(OSError, f"--out: cannot write {out} any further. Earlier results are kept", PredictionError),
        outputs,
    ):
        try:
            _find_all(finder, tracking, found, outputs)
        except Interrupted as interruption:
            interruption.advice = f"Stopped. {out} holds what was detected in {outputs.frames} images or frames"
            raise

    # Report how images with more than 8 bits are read, the detections and the failures
    _say_bit_depth(detector, found)
    _report(outputs, found, f"with {detector.weights} weights, {_describe_threshold(detector, wanted)}")


def _report(outputs: "Outputs", found: "Sequence[Source]", how: str) -> None:
    """Print what was detected and written, and how.

    Raises:
        PredictionError: A source could not be read or written.
    """
    has_videos = any(source.kind == "video" for source in found)
    images = "images and videos" if has_videos else "images"
    if not outputs.frames:
        none = f"none of the {len(found)} {images}" if len(found) > 1 else f"no image of {found[0].name}"
        raise PredictionError(f"{none} can be decoded: see the messages above")
    where = f"{outputs.frames} frames" if has_videos else f"{outputs.frames} of {len(found)} images"
    counts = f"{outputs.detections} detections in {where}"
    say(f"{counts} {how}")
    for name, path in outputs.files.items():
        say(f"{name}: {path}")
    if outputs.failed:
        failed = f"{len(outputs.failed)} of {len(found)} {images} could not be read or written"
        raise PredictionError(f"{failed}: see the messages above")


def _find_all(finder: "Finder", tracking: "Tracking | None", sources: "Sequence[Source]", outputs: "Outputs") -> None:
    """Find the objects of all sources, follow and write them, with a progress bar on a terminal."""
    from rfdetr_hwd.console import watch
    from rfdetr_hwd.prediction.frames import count_all, in_batches, read_frames

    frames = read_frames(sources, finder.detector.options, outputs.skip)
    for batch in in_batches(watch("detecting", count_all(sources), frames)):
        for frame, detections in zip(batch, finder.find([frame.image for frame in batch]), strict=True):
            outputs.add(frame, tracking.update(frame, detections) if tracking else detections)


def _split_words(words: "Sequence[str]") -> "tuple[list[str], list[str]]":
    """Return the sources and the overrides among the words of the command line."""
    from rfdetr_hwd.config.schema import Config

    def is_override(word: str) -> bool:
        key, equals, _ = word.partition("=")
        return bool(equals) and key.partition(".")[0] in Config.model_fields and not Path(word).exists()

    return [word for word in words if not is_override(word)], [word for word in words if is_override(word)]


def _say_bit_depth(detector: "Detector", sources: "Sequence[Source]") -> None:
    from rfdetr_hwd.data.deep_images import describe_bit_depth
    from rfdetr_hwd.data.images import measure_depths

    files = [Path(source.address) for source in sources if source.kind == "image" and not source.is_url]
    for _, reason in describe_bit_depth(measure_depths(files), detector.options.bit_depth):
        say(f"{sources[0].name if len(sources) == 1 else 'the images'}: {reason}")


def _read_threshold(text: str | None) -> float | Literal["per-class"] | None:
    """Return the wanted threshold, or `None` for that of the model.

    Raises:
        ConfigError: It is neither a number in [0, 1] nor `per-class`.
    """
    if text is None:
        return None
    if text == "per-class":
        return "per-class"
    with suppress(ValueError):
        value = float(text)
        if 0 <= value <= 1:
            return value
    raise ConfigError(f"--threshold {text}: give a number between 0 and 1, or per-class")


def _thresholds(detector: "Detector", wanted: float | Literal["per-class"] | None) -> dict[str, float]:
    """Return the confidence threshold of each class by name."""
    if wanted == "per-class":
        return detector.class_thresholds
    return dict.fromkeys(detector.class_names, detector.threshold if wanted is None else wanted)


def _describe_threshold(detector: "Detector", wanted: float | str | None) -> str:
    """Return which confidence threshold is used, and where it comes from."""
    if isinstance(wanted, float):
        return f"threshold {wanted:g}"
    origin = "best F1 on the validation images" if detector.has_threshold else "none is recorded"
    if wanted is None:
        return f"threshold {detector.threshold:.2f} ({origin}; --threshold changes it)"
    named = ", ".join(f"{name} {value:.2f}" for name, value in detector.class_thresholds.items())
    return f"thresholds {named} ({origin})"
