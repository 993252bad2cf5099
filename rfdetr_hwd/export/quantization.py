"""The settings of a quantized export. This module does not import torch."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export.formats import Format

Precision = Literal["fp16", "int8"]
"""Of a quantized graph: float16, or 8-bit weights and activations."""
PRECISIONS: dict[Format, tuple[Precision, ...]] = {"onnx": ("fp16", "int8"), "openvino": ("int8",)}
"""Precisions that a format can be quantized to."""
PACKAGES: dict[tuple[Format, Precision], tuple[str, ...]] = {
    ("onnx", "fp16"): ("onnx", "onnxruntime"),
    ("onnx", "int8"): ("onnx", "onnxruntime"),
    ("openvino", "int8"): ("openvino", "nncf"),
}
"""Packages that quantize, and that run what they quantized."""


@dataclass(frozen=True)
class Quantization:
    """How a graph is quantized, and how much AP it may lose.

    Attributes:
        precision: The precision.
        num_images: Training images that the ranges of int8 activations are calibrated on.
        seed: Random seed of their choice.
        max_ap_loss: Largest AP loss to the unquantized graph, in [0, 1].
    """

    precision: Precision
    num_images: int = 128
    seed: int = 0
    max_ap_loss: float = 0.005

    def check(self, format: Format) -> None:
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
        if self.precision not in PRECISIONS.get(format, ()):
            known = ", ".join(f"{name} ({' or '.join(kinds)})" for name, kinds in PRECISIONS.items())
            raise ConfigError(f"--quantize {self.precision}: not for --format {format}. Choose one of {known}")
        missing = [name for name in PACKAGES[format, self.precision] if importlib.util.find_spec(name) is None]
        if missing:
            names = " and ".join(missing)
            raise ConfigError(f"--quantize needs {names}, which is missing: pip install 'rfdetr-hwd[quantize]'")

    def describe(self) -> dict[str, str]:
        """Return the facts for the metadata of a graph."""
        facts = {"quantization": self.precision, "max_ap_loss": f"{self.max_ap_loss:g}"}
        if self.precision == "int8":
            facts |= {"calibration_images": str(self.num_images), "calibration_seed": str(self.seed)}
        return facts


def choose_quantization(
    precision: Precision | None, num_images: int | None, seed: int | None, max_ap_loss: float | None
) -> Quantization | None:
    """Return the settings that options ask for, with the usual ones for `None`. Without a precision there are none.

    Raises:
        ConfigError: An option goes with a precision, and there is none.
    """
    options = {"--calibration-images": num_images, "--calibration-seed": seed, "--max-ap-loss": max_ap_loss}
    if precision is not None:
        usual = Quantization(precision)
        return Quantization(
            precision,
            usual.num_images if num_images is None else num_images,
            usual.seed if seed is None else seed,
            usual.max_ap_loss if max_ap_loss is None else max_ap_loss,
        )
    if given := [option for option, value in options.items() if value is not None]:
        raise ConfigError(f"{given[0]} goes with --quantize")
    return None
