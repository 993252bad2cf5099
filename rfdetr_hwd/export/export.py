"""Fold a trained model into stock RF-DETR, write it, and verify the numerical parity of the written file."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.batch import join, unlabelled
from rfdetr_hwd.data.images import IMAGE_SUFFIXES, read_image
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import ConfigError, UserError, explaining, writing
from rfdetr_hwd.export.formats import Format, make_room, move_graph
from rfdetr_hwd.export.metadata import describe_graph
from rfdetr_hwd.export.parity import check_released, check_runtime, compare_ap
from rfdetr_hwd.export.runtimes import RUNTIMES
from rfdetr_hwd.model.fold import fold_model
from rfdetr_hwd.model.release import BatchSize, ReleasedModel, load_released, save_rfdetr

_NUM_IMAGES = 8


class ExportError(UserError):
    """An export that failed."""


def export(
    detector: Detector,
    out: Path,
    images: Tensor,
    format: Format = "rfdetr",
    size: BatchSize = BatchSize(),  # noqa: B008  (frozen)
    measured_on: DetectionData | None = None,
) -> None:
    """Fold, write, load the written file with upstream's own loader, and compare before reporting success.

    Args:
        detector: The trained model.
        out: The file to write, see `make_room`.
        images: Images to compare raw outputs on, (N, 3, R, R), from `sample_images`.
        format: `rfdetr`, or a format of upstream's exporter other than `tensorrt`: `onnx`, `openvino`, ...
        size: Batch size of a graph, see `check_format`.
        measured_on: Also compare AP over these data.

    Raises:
        UserError: The downsampler does not fold, a format's packages are missing, the file cannot be written, or the
            comparison fails.
    """
    if format == "tensorrt":
        raise ConfigError("an engine has to pass the gate: use rfdetr_hwd.export.engine.export_engine")
    make_room(format, out)  # the command does so before it loads the model; a program may not
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch:
        # Fold, write, and load the file as users of rfdetr do
        checkpoint = Path(scratch) / "stock.pth"
        released = release(detector, images, checkpoint)

        # Write the graph of another format, and run it where there is a runtime
        written = checkpoint if format == "rfdetr" else convert(detector, released, format, size, Path(scratch))
        if format in RUNTIMES:
            check_runtime(format, written, released, images, size)
        elif format != "rfdetr":
            say(f"{format}: written by the exporter of rfdetr, and not verified: rfdetr-hwd runs no {format} models")
        if measured_on is not None:
            compare_ap(detector, released, measured_on)

        with writing("--out", out):
            move_graph(format, written, out)


def release(detector: Detector, images: Tensor, checkpoint: Path) -> ReleasedModel:
    """Fold a model, write it, load the file with upstream's own loader, and compare.

    Args:
        detector: The trained model. It is moved to the CPU.
        images: Images to compare raw outputs on, (N, 3, R, R).
        checkpoint: The `.pth` to write.

    Raises:
        UserError: The downsampler does not fold, or the comparison fails.
    """
    stock = fold_model(detector.model)
    save_rfdetr(stock, detector.class_names, checkpoint)
    released = load_released(checkpoint)
    check_released(detector, released, stock.network, images)
    return released


def sample_images(detector: Detector, source: Path | DetectionData) -> Tensor:
    """Return a few real images as the model sees them, (N, 3, R, R).

    Args:
        detector: The trained model.
        source: An image, a directory that is searched for images, or annotated images.

    Raises:
        ConfigError: There are none.
        ImageError: One cannot be read.
    """
    if isinstance(source, DetectionData):
        found = [source.read(index) for index in range(min(_NUM_IMAGES, len(source)))]
    else:
        files = [source] if source.is_file() else source.rglob("*")
        paths = sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)[:_NUM_IMAGES]
        found = [read_image(path, options=detector.options) for path in paths]
    if not found:
        raise ConfigError(f"--images {source} is neither an image nor a directory with images")
    batch = join([unlabelled(image, detector.resolution, detector.model.resize) for image in found])
    return batch.to(torch.device("cpu")).images


def convert(
    detector: Detector, released: ReleasedModel, format: Format, size: BatchSize, folder: Path, half: bool = False
) -> Path:
    """Write the graph of a format, with metadata where the format supports it, and return the file.

    Args:
        detector: The trained model, for the metadata.
        released: The model, folded.
        format: A format of upstream's exporter.
        size: Batch size of the graph.
        folder: Where to write it.
        half: Let a TensorRT engine compute in float16.

    Raises:
        UserError: Packages are missing, or the exporter fails.
    """
    with (
        explaining(ImportError, f"--format {format} needs packages that are not installed", ExportError),
        explaining(_failures_of(format), f"the model cannot be exported as {format}", ExportError),
        explaining((ValueError, NotImplementedError), f"--format {format}", ConfigError),
    ):
        path = released.export(format, folder, size, half)
        if format in RUNTIMES:
            path = RUNTIMES[format].finish(path, describe_graph(detector, size), size, detector.resolution)
    return path


def _failures_of(format: Format) -> tuple[type[Exception], ...]:
    """Return what the exporter of a format raises where it fails."""
    if format != "tensorrt":
        return (RuntimeError,)
    from polygraphy.exception import PolygraphyException

    return (RuntimeError, PolygraphyException)
