"""`rfdetr-hwd export`: hand a trained model to the RF-DETR ecosystem, and show that it is the same model."""

import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from rfdetr_hwd.cli.export_metadata import describe_graph
from rfdetr_hwd.cli.export_parity import check_released, check_runtime, compare_ap
from rfdetr_hwd.cli.export_runtimes import RUNTIMES
from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.images import IMAGE_SUFFIXES, read_image
from rfdetr_hwd.data.transforms import preprocess
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import ConfigError, UserError
from rfdetr_hwd.model.fold import fold_model
from rfdetr_hwd.model.release import BatchSize, ReleasedModel, load_released, loading_line, save_rfdetr
from rfdetr_hwd.training.validation_split import read_validation

FORMATS = ("rfdetr", "onnx", "openvino", "tensorrt", "tflite", "litert", "executorch", "coreml", "coreai")
"""A checkpoint of `rfdetr`, and the formats of upstream's exporter."""
DYNAMIC_FORMATS = ("onnx", "openvino", "tensorrt")
"""Those whose graphs can take any number of images."""
_NUM_IMAGES = 8


class ExportError(UserError):
    """An export that cannot be made."""


def run(
    weights: Path,
    format: str,
    out: Path,
    which: str,
    images: Path | None,
    batch: int,
    dynamic_batch: bool,
    check_ap: bool,
    overrides: list[str],
) -> None:
    """Fold, write, load the written file with upstream's own loader, and compare before reporting success.

    Args:
        weights: Run folder (its best checkpoint) or checkpoint folder.
        format: `rfdetr`, or a format of upstream's exporter: `onnx`, `openvino`, `tensorrt`, ...
        out: The file to write.
        which: `ema`, `plain` or `auto`.
        images: Folder of images to compare on; by default the validation split the model was trained with.
        batch: Images that a graph takes at once; with `dynamic_batch` the most it is made and checked for.
        dynamic_batch: Make a graph that takes any number.
        check_ap: Also compare AP over the validation split.
        overrides: `key=value` assignments, such as `data.root`.

    Raises:
        UserError: The downsampler does not fold, a format's packages are missing, or the comparison fails.
    """
    size = BatchSize(batch, dynamic_batch)
    _check_format(format, size)
    detector = Detector.load(weights, which, overrides)
    inputs = _read_batch(detector, images)
    _make_room(out, format)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch:
        checkpoint = Path(scratch) / "stock.pth"
        stock = fold_model(detector.model)
        save_rfdetr(stock, detector.class_names, checkpoint)
        released = load_released(checkpoint)
        check_released(detector, released, stock.network, inputs)
        written = checkpoint if format == "rfdetr" else _convert(detector, released, format, size, Path(scratch))
        if format in RUNTIMES:
            check_runtime(format, written, released, inputs, size)
        elif format != "rfdetr":
            say(f"{format}: written by upstream's exporter; not compared, because no runtime for it is used here")
        if check_ap:
            compare_ap(detector, released, _validation_data(detector))
        if format == "openvino":  # the graph's weights, which it looks for beside itself under its own name
            shutil.move(written.with_suffix(".bin"), out.with_suffix(".bin"))
        shutil.move(written, out)  # a file, or the folder that some formats are
    if detector.model.resize == "letterbox":
        say("the model was trained on letterboxed images: give the released one such images, for it stretches others")
    bits = detector.options.bit_depth
    if bits < 16:
        say(
            f"the model was trained on values of {bits} bits (data.bit_depth={bits}): scale those of 16-bit files by "
            f"255/{(1 << bits) - 1} before you give them to the released one"
        )
    if detector.options.exif == "ignore":
        say(
            "the model was trained on images as they are stored (data.exif=ignore): do not turn the images of the "
            "released one as EXIF says"
        )
    say(f"written: {out} ({detector.weights} weights of {detector.checkpoint.path})")
    if format == "rfdetr":
        say(f"to load it:\n{loading_line(out)}")


def _check_format(format: str, size: BatchSize) -> None:
    """Refuse a format that is unknown, or a batch size that it does not take, before anything long is done."""
    if format not in FORMATS:
        raise ConfigError(f"--format {format} is unknown; known are {', '.join(FORMATS)}")
    if format == "rfdetr" and size != BatchSize():
        raise ConfigError("a checkpoint of rfdetr takes any number of images: leave out --batch and --dynamic-batch")
    if size.is_dynamic and format not in DYNAMIC_FORMATS:
        raise ConfigError(
            f"--dynamic-batch: upstream's {format} graphs take one number of images, given by --batch; any number take "
            f"{', '.join(DYNAMIC_FORMATS)}"
        )
    if size.is_dynamic and format == "tensorrt" and size.images == 1:
        raise ConfigError("--dynamic-batch: tensorrt builds for a largest number of images: give it as --batch")


def _make_room(out: Path, format: str) -> None:
    """Make the folder of the output file before anything long is done."""
    if format == "openvino" and out.suffix != ".xml":
        raise ConfigError(f"--out {out}: OpenVINO reads a graph from NAME.xml and its weights from NAME.bin")
    for path in (out, out.with_suffix(".bin")) if format == "openvino" else (out,):
        if path.exists():
            raise ConfigError(f"--out {path} is there already: name a new file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot write to {out.parent}: {error.strerror}") from None


def _read_batch(detector: Detector, images: Path | None) -> Tensor:
    """Return real images as the model sees them, (N, 3, R, R)."""
    if images is None:
        data = _validation_data(detector)
        found = [data.read(index) for index in range(min(_NUM_IMAGES, len(data)))]
    else:
        files = [images] if images.is_file() else images.rglob("*")
        paths = sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)[:_NUM_IMAGES]
        found = [read_image(path, options=detector.options) for path in paths]
    if not found:
        raise ConfigError(f"--images {images} is no image and no folder that holds images")
    return torch.stack([preprocess(image, detector.resolution, detector.model.resize) for image in found])


def _validation_data(detector: Detector) -> DetectionData:
    try:
        return read_validation(detector.config.data, detector.checkpoint)
    except DatasetError as error:
        raise ConfigError(
            f"there are no images to compare on: {error}. Give data.root=FOLDER or --images FOLDER"
        ) from None


def _convert(detector: Detector, released: ReleasedModel, format: str, size: BatchSize, folder: Path) -> Path:
    """Write the graph of a format, with what is known of it where the format has room for that."""
    try:
        path = released.export(format, folder, size)
        if format in RUNTIMES:
            path = RUNTIMES[format].finish(path, describe_graph(detector, size), size, detector.resolution)
    except ImportError as error:
        raise ExportError(f"--format {format} needs packages that are not installed: {error}") from None
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"--format {format}: {error}") from None
    except RuntimeError as error:
        raise ExportError(f"the model cannot be written as {format}: {error}") from None
    return path
