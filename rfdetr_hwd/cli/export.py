"""`rfdetr-hwd export`: export to stock RF-DETR, ONNX, OpenVINO, ... and verify numerical parity."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfdetr_hwd.cli.options import Overrides, WeightsKind, WeightsPath
from rfdetr_hwd.console import say
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export.formats import Format, check_format, make_room

if TYPE_CHECKING:
    from rfdetr_hwd.data.annotations import DetectionData
    from rfdetr_hwd.detector import Detector


def export(
    weights: WeightsPath,
    out: Annotated[Path, typer.Option(help="Output file.")],
    overrides: Overrides = None,
    format: Annotated[Format, typer.Option(help="Format: a checkpoint of rfdetr, or a graph.")] = "rfdetr",
    which: WeightsKind = "auto",
    images: Annotated[
        Path | None,
        typer.Option(help="Image or directory of images to compare on.", show_default="the validation split"),
    ] = None,
    batch: Annotated[int, typer.Option(help="Batch size of the graph.", min=1)] = 1,
    dynamic_batch: Annotated[
        bool,
        typer.Option("--dynamic-batch", help="Accept any batch size (onnx, openvino) or up to --batch (tensorrt)."),
    ] = False,
    check_ap: Annotated[bool, typer.Option("--check-ap", help="Also compare AP over the validation split.")] = False,
) -> None:
    """Export to stock RF-DETR, ONNX, OpenVINO, ... and verify numerical parity."""
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.export.export import export as export_model
    from rfdetr_hwd.export.export import sample_images
    from rfdetr_hwd.model.release import BatchSize, loading_line

    # Check the options before anything long is done
    size = BatchSize(batch, dynamic_batch)
    check_format(format, size)
    make_room(format, out)

    # Load the model, and the images to compare on
    detector = Detector.load(weights, which, overrides or [])
    sample = sample_images(detector, images or _read_validation(detector))
    measured_on = _read_validation(detector) if check_ap else None

    # Fold, write and verify
    export_model(detector, out, sample, format, size, measured_on)

    # Print how to use the file
    _say_preprocessing(detector)
    say(f"written: {out} ({detector.weights} weights of {detector.checkpoint.path})")
    if format == "rfdetr":
        say(f"load it with:\n{loading_line(out)}")


def _read_validation(detector: "Detector") -> "DetectionData":
    from rfdetr_hwd.data.findings import DatasetError
    from rfdetr_hwd.training.validation_split import read_validation

    try:
        return read_validation(detector.config.data, detector.checkpoint)
    except DatasetError as error:
        raise ConfigError(
            f"there are no images to compare on: {error}. Or compare on other images with --images DIRECTORY"
        ) from None


def _say_preprocessing(detector: "Detector") -> None:
    """Print the preprocessing that users of the exported model have to do themselves."""
    if detector.model.resize == "letterbox":
        say("the model was trained on letterboxed images: letterbox the inputs of the exported model yourself")
    bits = detector.options.bit_depth
    if bits < 16:
        say(
            f"the model was trained on {bits}-bit values (data.bit_depth={bits}): scale the values of 16-bit files by "
            f"255/{(1 << bits) - 1} for the exported model"
        )
    if detector.options.exif == "ignore":
        say(
            "the model was trained on images as stored (data.exif=ignore): do not apply EXIF orientations to the "
            "inputs of the exported model"
        )
