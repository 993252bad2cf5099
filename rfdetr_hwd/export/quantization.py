"""The settings of a quantized export, and of a TensorRT engine. This module does not import torch."""

from dataclasses import dataclass
from typing import Literal

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export.formats import PACKAGES, Format, find_missing

Precision = Literal["fp16", "int8"]
"""Of a quantized graph: float16, or 8-bit weights and activations."""
PRECISIONS: dict[Format, tuple[Precision, ...]] = {
    "onnx": ("fp16", "int8"),
    "openvino": ("int8",),
    "tensorrt": ("fp16",),
}
"""Precisions that a format can be quantized to."""


@dataclass(frozen=True)
class Quantization:
    """How a graph is quantized, and how much AP it may lose.

    Attributes:
        precision: The precision; `float32` for an engine that is not quantized.
        num_images: Training images that the ranges of int8 activations are calibrated on.
        seed: Random seed of their choice.
        max_ap_loss: Largest AP loss to the unquantized graph, in [0, 1].
        format: The format of the graph.
    """

    precision: Precision | Literal["float32"]
    num_images: int = 128
    seed: int = 0
    max_ap_loss: float = 0.005
    format: Format = "onnx"

    @property
    def name(self) -> str:
        """What the file is called in tables and messages."""
        return f"tensorrt {self.precision}" if self.format == "tensorrt" else self.precision

    def check(self) -> None:
        """Refuse settings that cannot work.

        Raises:
            ConfigError: A value is out of range, or the format cannot be quantized to the precision.
        """
        if not 0 <= self.max_ap_loss <= 1:  # NaN, too
            raise ConfigError(f"--max-ap-loss {self.max_ap_loss} is not between 0 and 1")
        if self.num_images < 1:
            raise ConfigError(f"--calibration-images {self.num_images}: calibration needs at least 1 image")
        if self.seed < 0:
            raise ConfigError(f"--calibration-seed {self.seed} is negative")
        if self.precision != "float32" and self.precision not in PRECISIONS.get(self.format, ()):
            known = ", ".join(f"{name} ({' or '.join(kinds)})" for name, kinds in PRECISIONS.items())
            raise ConfigError(f"--quantize {self.precision}: not for --format {self.format}. Choose one of {known}")
        packages = PACKAGES[self.format]
        if missing := find_missing(packages.run + packages.quantize):
            option, extra = ("--quantize", "rfdetr-hwd[quantize]")
            if self.format == "tensorrt":
                option, extra = "--format tensorrt", "rfdetr[tensorrt]"
            raise ConfigError(f"{option} needs {', '.join(missing)}: pip install '{extra}'")

    def alternatives(self) -> list[str]:
        """Return what loses less AP, as advice."""
        if self.precision == "float32":
            return ["use --format onnx"]
        if self.format == "tensorrt":
            return ["build the engine in float32, without --quantize"]
        if self.precision == "int8":
            more = f"calibrate on more images (--calibration-images, now {self.num_images})"
            return [more, "use --format onnx --quantize fp16"]
        return []

    def describe(self) -> dict[str, str]:
        """Return the facts for the metadata of a graph."""
        facts = {"quantization": self.precision, "max_ap_loss": f"{self.max_ap_loss:g}"}
        if self.precision == "int8":
            facts |= {"calibration_images": str(self.num_images), "calibration_seed": str(self.seed)}
        return facts


def choose_quantization(
    format: Format, precision: Precision | None, num_images: int | None, seed: int | None, max_ap_loss: float | None
) -> Quantization | None:
    """Return the settings that options ask for, with the usual ones for `None`.

    Without a precision, an engine is built in float32, and other formats have no settings.

    Raises:
        ConfigError: An option goes with another precision or format.
    """
    for option, value in (("--calibration-images", num_images), ("--calibration-seed", seed)):
        if value is not None and precision != "int8":
            raise ConfigError(f"{option} goes with --quantize int8")
    if precision is None and format != "tensorrt":
        if max_ap_loss is not None:
            raise ConfigError("--max-ap-loss goes with --quantize or --format tensorrt")
        return None
    usual = Quantization(precision or "float32")
    return Quantization(
        usual.precision,
        usual.num_images if num_images is None else num_images,
        usual.seed if seed is None else seed,
        usual.max_ap_loss if max_ap_loss is None else max_ap_loss,
        format,
    )
