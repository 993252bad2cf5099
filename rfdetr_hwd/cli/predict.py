"""`rfdetr-hwd predict`: detect objects in an image or a directory of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfdetr_hwd.cli.options import Overrides, WeightsPath
from rfdetr_hwd.console import say
from rfdetr_hwd.errors import ConfigError, UserError, writing

if TYPE_CHECKING:
    from rfdetr_hwd.detector import Detector


class PredictionError(UserError):
    """Some images could not be read or drawn. The results of the others are written."""


def predict(
    source: Annotated[Path, typer.Argument(help="An image, or a directory of images.")],
    weights: WeightsPath,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="Directory for the drawn images and detections.json.")] = Path(
        "predictions"
    ),
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Confidence threshold in [0, 1], or per-class for that of the best F1 of each class.",
            show_default="that of the best F1 on the validation images; 0.5 if it is not recorded",
        ),
    ] = None,
) -> None:
    """Detect objects in images and draw them.

    Images that cannot be read or drawn are reported and skipped, and the exit status is 1.
    """
    from rfdetr_hwd.data.deep_images import describe_bit_depth
    from rfdetr_hwd.data.image_batches import find_images, measure_depths, read_batches
    from rfdetr_hwd.data.images import ImageError
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.report.gallery import Gallery, json_list
    from rfdetr_hwd.report.legend import write_legend

    # Find the images, and load the model
    paths = find_images(source, out)
    detector = Detector.load(weights, overrides=overrides or [])
    chosen = _choose_threshold(detector, threshold)
    gallery = Gallery(out, detector.class_names)

    # Detect and draw, a few images at a time
    with writing("--out", out):
        out.mkdir(parents=True, exist_ok=True)
        with json_list(out / "detections.json") as write:
            for batch in read_batches(paths, detector.options, gallery.skip):
                found = detector.predict([image for _, image in batch], chosen)
                for (path, image), detections in zip(batch, found, strict=True):
                    write(gallery.add(image, detections, path, source))
        gallery.write_overview()
        write_legend(out, detector.class_names)

    # Report how images with more than 8 bits are read
    for _, reason in describe_bit_depth(measure_depths(paths), detector.options.bit_depth):
        say(f"{source}: {reason}")

    # Report the detections and the failures
    if not gallery.images:
        raise ImageError(f"none of the {len(paths)} images of {source} can be decoded")
    counts = f"{gallery.detections} detections in {gallery.images} of {len(paths)} images"
    say(f"{counts} with {detector.weights} weights, {_describe_threshold(chosen, threshold)}")
    say(f"pictures: {out}\noverview: {out / 'overview.png'}\ndetections: {out / 'detections.json'}")
    if gallery.failed:
        failed = f"{gallery.failed} of {len(paths)} images could not be read or drawn"
        raise PredictionError(f"{failed}: see the messages above")


def _choose_threshold(detector: "Detector", wanted: str | None) -> "float | Mapping[str, float]":
    """Return the confidence threshold of all classes, or of each.

    Raises:
        ConfigError: The wanted one is neither a number nor `per-class`.
    """
    if wanted is None:
        return detector.threshold
    if wanted == "per-class":
        return detector.class_thresholds
    try:
        value = float(wanted)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"--threshold {wanted}: give a number between 0 and 1, or per-class")
    return value


def _describe_threshold(chosen: "float | Mapping[str, float]", wanted: str | None) -> str:
    if isinstance(chosen, float):
        return f"threshold {chosen:.2f}{'' if wanted else ' (--threshold changes it)'}"
    return "thresholds " + ", ".join(f"{name} {value:.2f}" for name, value in chosen.items())
