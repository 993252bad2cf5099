"""The formats that a model is exported to, and what each of them takes; free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rfdetr_hwd.errors import ConfigError, writing

if TYPE_CHECKING:
    from rfdetr_hwd.model.release import BatchSize

Format = Literal["rfdetr", "onnx", "openvino", "tensorrt", "tflite", "litert", "executorch", "coreml", "coreai"]
"""A checkpoint of `rfdetr`, and the formats of upstream's exporter."""
DYNAMIC_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "tensorrt")
"""Those whose graphs can take any number of images."""


def check_format(format: Format, size: "BatchSize") -> None:
    """Refuse a batch size that a format does not take.

    Raises:
        ConfigError: It does not.
    """
    if format == "rfdetr" and (size.images != 1 or size.is_dynamic):
        raise ConfigError("a checkpoint of rfdetr takes any number of images: leave out --batch and --dynamic-batch")
    if size.is_dynamic and format not in DYNAMIC_FORMATS:
        raise ConfigError(
            f"--dynamic-batch: upstream's {format} graphs take one number of images, given by --batch; any number take "
            f"{', '.join(DYNAMIC_FORMATS)}"
        )
    if size.is_dynamic and format == "tensorrt" and size.images == 1:
        raise ConfigError("--dynamic-batch: tensorrt builds for a largest number of images: give it as --batch")


def make_room(format: Format, out: Path) -> None:
    """Make the directory of the output file.

    Raises:
        ConfigError: The file exists or has the wrong suffix, or the directory cannot be written.
    """
    if format == "openvino" and out.suffix != ".xml":
        raise ConfigError(f"--out {out}: OpenVINO reads a graph from NAME.xml and its weights from NAME.bin")
    for path in (out, out.with_suffix(".bin")) if format == "openvino" else (out,):
        if path.exists():
            raise ConfigError(f"--out {path} is there already: name a new file")
    with writing("--out", out):
        out.parent.mkdir(parents=True, exist_ok=True)
