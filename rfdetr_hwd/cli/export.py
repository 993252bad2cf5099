"""`rfdetr-hwd export`: export to stock RF-DETR, ONNX, OpenVINO, ... and verify numerical parity."""

import shlex
from functools import cached_property
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
    from rfdetr_hwd.data.layout import Layout
    from rfdetr_hwd.data.roles import Role
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
    splits = _Splits(detector, settings, check_ap)
    sample = sample_images(detector, images or splits.validation)
    measured_on = splits.validation if check_ap else None
    data = None if settings is None else (splits.train if settings.precision == "int8" else None, splits.validation)

    # Fold, write and verify; then quantize
    if format == "hub":
        export_hub(detector, out, sample, license or "unknown")
    elif settings is None or data is None:
        export_model(detector, out, sample, format, size, measured_on)
    elif format == "tensorrt":
        export_engine(detector, out, sample, size, settings, data[1])
    else:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".quantize-") as scratch:
            graph = Path(scratch) / ("model.xml" if format == "openvino" else "model.onnx")
            export_model(detector, graph, sample, format, size, measured_on)
            export_quantized(detector, graph, out, settings, *data)

    # Print how to use the file
    _say_preprocessing(detector)
    say(f"written: {out} ({detector.weights} weights of {detector.checkpoint.path})")
    if format == "rfdetr":
        say(f"load it with:\n{loading_line(out)}")
    if format == "hub":
        say(f"check {out / 'README.md'}, then publish it with: rfdetr-hwd push {shlex.quote(str(out))} USER/NAME")


class _Splits:
    """The splits of a run, each read when it is first needed.

    Args:
        detector: The trained model.
        settings: Of a quantization or an engine.
        check_ap: Whether the AP is compared.
    """

    def __init__(self, detector: "Detector", settings: Quantization | None, check_ap: bool) -> None:
        self.settings, self.checkpoint = detector.config.data, detector.checkpoint
        self.purpose = "there are no images to compare on, unless --images DIRECTORY gives some"
        if settings is not None or check_ap:
            option = "--check-ap" if settings is None else "--quantize"
            option = "--format tensorrt" if settings is not None and settings.format == "tensorrt" else option
            self.purpose = f"{option} evaluates on the validation split"

    @cached_property
    def validation(self) -> "DetectionData":
        """The images to compare and to evaluate on."""
        return self._read("val", self.purpose)

    @cached_property
    def train(self) -> "DetectionData":
        """The images to calibrate int8 on."""
        return self._read("train", "--quantize int8 calibrates on the training split")

    @cached_property
    def _layout(self) -> "Layout":
        from rfdetr_hwd.checkpoint.data_root import locate_data
        from rfdetr_hwd.data.detect import find_data

        return find_data(locate_data(self.settings, self.checkpoint.run))

    def _read(self, role: "Role", purpose: str) -> "DetectionData":
        from rfdetr_hwd.data.findings import DatasetError
        from rfdetr_hwd.training.validation_split import read_as_trained

        with explaining(DatasetError, purpose, ConfigError):
            return read_as_trained(self.settings, self.checkpoint, self._layout, role)


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
