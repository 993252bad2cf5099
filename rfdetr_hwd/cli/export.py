"""`rfdetr-hwd export`: export to stock RF-DETR, ONNX, OpenVINO, ... and verify numerical parity."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from rfdetr_hwd.cli.options import Overrides, WeightsKind, WeightsPath
from rfdetr_hwd.console import say
from rfdetr_hwd.errors import ConfigError, explaining
from rfdetr_hwd.export.formats import Format, check_format, make_room
from rfdetr_hwd.export.quantization import Precision, Quantization, choose_quantization

if TYPE_CHECKING:
    from rfdetr_hwd.data.annotations import DetectionData
    from rfdetr_hwd.detector import Detector


def export(
    weights: WeightsPath,
    out: Annotated[Path, typer.Option(help="Output file.")],
    overrides: Overrides = None,
    format: Annotated[
        Format,
        typer.Option(
            metavar="FORMAT",
            help="A checkpoint of rfdetr, a hub directory, or a graph: " + ", ".join(get_args(Format)) + ".",
        ),
    ] = "rfdetr",
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
    license: Annotated[
        str | None, typer.Option(help="Licence of the weights in the card of --format hub, such as apache-2.0.")
    ] = None,
    check_ap: Annotated[bool, typer.Option("--check-ap", help="Also compare AP over the validation split.")] = False,
    quantize: Annotated[
        Precision | None,
        typer.Option(help="Quantize the graph (onnx: fp16, int8; openvino: int8; tensorrt: fp16)."),
    ] = None,
    max_ap_loss: Annotated[
        float | None, typer.Option(help="Largest AP loss of a quantized graph or an engine.", show_default="0.005")
    ] = None,
    calibration_images: Annotated[
        int | None, typer.Option(help="Training images that int8 is calibrated on.", show_default="128")
    ] = None,
    calibration_seed: Annotated[int | None, typer.Option(help="Seed of their choice.", show_default="0")] = None,
) -> None:
    """Export to stock RF-DETR, ONNX, OpenVINO, ... and verify numerical parity.

    With --quantize and for tensorrt, the AP loss on the validation split is
    measured. A file that loses more than --max-ap-loss is not written.
    """
    import tempfile

    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.export.engine import export_engine
    from rfdetr_hwd.export.export import export as export_model
    from rfdetr_hwd.export.export import sample_images
    from rfdetr_hwd.export.hub import export_hub
    from rfdetr_hwd.export.quantized import export_quantized
    from rfdetr_hwd.export.runtimes import check_device
    from rfdetr_hwd.model.release import BatchSize, loading_line

    # Check the options before anything long is done
    size = BatchSize(batch, dynamic_batch)
    check_format(format, size)
    check_device(format)
    settings = choose_quantization(format, quantize, calibration_images, calibration_seed, max_ap_loss)
    if settings is not None:
        settings.check()
    if license is not None and format != "hub":
        raise ConfigError("--license goes with --format hub")
    if check_ap and format == "hub":
        raise ConfigError("--check-ap: evaluate the directory instead: rfdetr-hwd evaluate --weights DIR")
    if check_ap and format == "tensorrt":
        raise ConfigError("--check-ap: the AP of an engine is always compared: remove the option")
    make_room(format, out)

    # Load the model, and the images to compare on
    detector = Detector.load(weights, which, overrides or [])
    sample = sample_images(detector, images or _read_validation(detector))
    measured_on = _read_validation(detector) if check_ap else None
    splits = None if settings is None else _read_splits(detector, settings)

    # Fold, write and verify; then quantize
    if format == "hub":
        export_hub(detector, out, sample, license or "unknown")
    elif settings is None or splits is None:
        export_model(detector, out, sample, format, size, measured_on)
    elif format == "tensorrt":
        export_engine(detector, out, sample, size, settings, splits[1])
    else:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".quantize-") as scratch:
            graph = Path(scratch) / ("model.xml" if format == "openvino" else "model.onnx")
            export_model(detector, graph, sample, format, size, measured_on)
            export_quantized(detector, graph, out, settings, *splits)

    # Print how to use the file
    _say_preprocessing(detector)
    say(f"written: {out} ({detector.weights} weights of {detector.checkpoint.path})")
    if format == "rfdetr":
        say(f"load it with:\n{loading_line(out)}")
    if format == "hub":
        say(f"check {out / 'README.md'}, then publish it with: rfdetr-hwd push {shlex.quote(str(out))} USER/NAME")


def _read_validation(detector: "Detector") -> "DetectionData":
    from rfdetr_hwd.data.findings import DatasetError
    from rfdetr_hwd.training.validation_split import read_validation

    try:
        return read_validation(detector.config.data, detector.checkpoint)
    except DatasetError as error:
        raise ConfigError(
            f"there are no images to compare on: {error}. Or compare on other images with --images DIRECTORY"
        ) from None


def _read_splits(detector: "Detector", settings: Quantization) -> "tuple[DetectionData | None, DetectionData]":
    """Return the images to calibrate int8 on, and the images to evaluate on."""
    from rfdetr_hwd.checkpoint.data_root import locate_data
    from rfdetr_hwd.data.detect import find_data
    from rfdetr_hwd.data.findings import DatasetError
    from rfdetr_hwd.training.validation_split import read_as_trained

    data, checkpoint = detector.config.data, detector.checkpoint
    option = "--format tensorrt" if settings.format == "tensorrt" else "--quantize"
    with explaining(DatasetError, f"{option} evaluates on the validation split", ConfigError):
        layout = find_data(locate_data(data, checkpoint.run))
        validation = read_as_trained(data, checkpoint, layout, "val")
    if settings.precision != "int8":
        return None, validation
    with explaining(DatasetError, "--quantize int8 calibrates on the training split", ConfigError):
        return read_as_trained(data, checkpoint, layout, "train"), validation


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
