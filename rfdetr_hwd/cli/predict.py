"""`rfdetr-hwd predict`: detect objects in an image or a directory of images."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

    # Check the threshold, find the images, and load the model
    wanted = _read_threshold(threshold)
    paths = find_images(source, out)
    detector = Detector.load(weights, overrides=overrides or [])
    chosen = detector.class_thresholds if wanted == "per-class" else wanted
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
    say(f"{counts} with {detector.weights} weights, {_describe_threshold(detector, wanted)}")
    say(f"pictures: {out}\noverview: {out / 'overview.png'}\ndetections: {out / 'detections.json'}")
    if gallery.failed:
        failed = f"{gallery.failed} of {len(paths)} images could not be read or drawn"
        raise PredictionError(f"{failed}: see the messages above")


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


def _describe_threshold(detector: "Detector", wanted: float | str | None) -> str:
    """Return which confidence threshold is used, and where it comes from."""
    if isinstance(wanted, float):
        return f"threshold {wanted:g}"
    origin = "best F1 on the validation images" if detector.has_threshold else "none is recorded"
    if wanted is None:
        return f"threshold {detector.threshold:.2f} ({origin}; --threshold changes it)"
    named = ", ".join(f"{name} {value:.2f}" for name, value in detector.class_thresholds.items())
    return f"thresholds {named} ({origin})"
