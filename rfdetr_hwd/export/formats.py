"""The export formats: their batch sizes, packages and files. This module does not import torch."""

import importlib.util
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from rfdetr_hwd.errors import ConfigError, writing
from rfdetr_hwd.files import check_new_directory

if TYPE_CHECKING:
    from rfdetr_hwd.model.release import BatchSize

Format = Literal["rfdetr", "hub", "onnx", "openvino", "tensorrt", "tflite", "litert", "executorch", "coreml", "coreai"]
"""A checkpoint of `rfdetr`, a directory for a model hub, and the formats of upstream's exporter."""
DYNAMIC_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "tensorrt")
"""Formats whose graphs can take any batch size."""


class Packages(NamedTuple):
    """The packages of a format.

    Attributes:
        run: They write a graph and run it. TensorRT's alone only runs it.
        quantize: They are also needed to quantize a graph, or to build an engine.
    """

    run: tuple[str, ...]
    quantize: tuple[str, ...] = ()


PACKAGES: dict[str, Packages] = {
    "onnx": Packages(("onnx", "onnxruntime")),
    "openvino": Packages(("openvino",), ("nncf",)),
    "tensorrt": Packages(("tensorrt",), ("polygraphy", "onnx", "onnxconverter_common")),
}
"""Formats whose graphs are run here."""


def find_missing(packages: tuple[str, ...]) -> list[str]:
    """Return the packages that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def check_format(format: Format, size: "BatchSize") -> None:
    """Refuse a batch size that a format does not support.

    Raises:
        ConfigError: The format does not support it.
    """
    if format in ("rfdetr", "hub") and (size.images != 1 or size.is_dynamic):
        raise ConfigError("a checkpoint of rfdetr takes any batch size: remove --batch and --dynamic-batch")
    if size.is_dynamic and format not in DYNAMIC_FORMATS:
        raise ConfigError(
            f"--dynamic-batch: {format} graphs have a fixed batch size: set it with --batch. Formats with a dynamic "
            f"batch size: {', '.join(DYNAMIC_FORMATS)}"
        )
    if size.is_dynamic and format == "tensorrt" and size.images == 1:
        raise ConfigError("--dynamic-batch: tensorrt needs the largest batch size: set it with --batch")


def make_room(format: Format, out: Path) -> None:
    """Make the directory of the output file.

    Raises:
        ConfigError: The file exists or has the wrong suffix, or the directory cannot be written.
    """
    if format == "hub":
        check_new_directory("--out", out)
    for name, suffix, kind in (("openvino", ".xml", "OpenVINO graphs"), ("tensorrt", ".engine", "TensorRT engines")):
        if format == name and out.suffix != suffix:
            raise ConfigError(f"--out {out}: {kind} are named NAME{suffix}: choose a name that ends in {suffix}")
    for path in (out, *_beside(format, out)):
        if path.exists() and format != "hub":
            raise ConfigError(f"--out {path} already exists: choose a new file")
    with writing("--out", out):
        out.parent.mkdir(parents=True, exist_ok=True)


def move_graph(format: str, written: Path, out: Path) -> None:
    """Move an exported file, or the directory of some formats, to its place.

    Raises:
        OSError: It cannot be written.
    """
    for path, place in zip(_beside(format, written), _beside(format, out), strict=True):
        shutil.move(path, place)
    shutil.move(written, out)


def metadata_path(engine: Path) -> Path:
    """Return the file with the metadata of a TensorRT engine, which has no place for them."""
    return engine.with_name(f"{engine.name}.json")


def _beside(format: str, graph: Path) -> list[Path]:
    """Return the other files of a graph: OpenVINO's weights, and the metadata of an engine."""
    if format == "tensorrt":
        return [metadata_path(graph)]
    return [graph.with_suffix(".bin")] if format == "openvino" else []
