"""Quantize written graphs: ONNX to float16 or int8, OpenVINO to int8."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rfdetr_hwd.errors import UserError, explaining
from rfdetr_hwd.export.calibration import Calibration
from rfdetr_hwd.export.graph import INPUT, Array
from rfdetr_hwd.export.quantization import Quantization

_LAYERS = {"Conv": 4, "Gemm": 2, "MatMul": 2}
"""Operators of ONNX whose learned weights become int8, with the dimensions of the weights.

Everything else stays float32, also the products of attention. In a graph for one image, some of these have constant
inputs of more dimensions: they come from the queries alone.
"""


class QuantizationError(UserError):
    """A graph that cannot be quantized."""


def quantize_graph(settings: Quantization, graph: Path, images: Calibration | None) -> Path:
    """Write a quantized copy of a graph beside it, without metadata, and return its path.

    Args:
        settings: Format and precision.
        graph: The float32 graph.
        images: Images to calibrate int8 on; `None` for float16.

    Raises:
        QuantizationError: The library cannot quantize this graph.
    """
    out = graph.with_name(f"quantized-{graph.name}")
    # The libraries raise kinds of their own
    format, what = settings.format, f"the {settings.format} graph cannot be quantized to {settings.precision}"
    with explaining(Exception, what, QuantizationError):
        if images is None:
            _to_float16(graph, out)
        else:
            _TO_INT8[format](graph, out, images)
    return out


def _to_float16(graph: Path, out: Path) -> None:
    """Store weights and compute in float16. Inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(graph), keep_io_types=True), out)


def _onnx_to_int8(graph: Path, out: Path, images: Iterable[Array]) -> None:
    """Quantize the layers with learned weights, with QuantizeLinear and DequantizeLinear around them.

    Activations have a range for each tensor, weights one for each output channel. Weights use 7 of the 8 bits: on CPUs
    without VNNI, sums of 8-bit products overflow, and the AP would depend on the CPU.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            self.batches: Iterator[Array] = iter(images)

        def get_next(self) -> dict[str, Array] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    prepared = out.with_name(f"prepared-{graph.name}")
    quant_pre_process(graph, prepared)
    nodes = onnx.load(prepared).graph
    dimensions = {tensor.name: len(tensor.dims) for tensor in nodes.initializer}
    layers = [
        node.name
        for node in nodes.node
        if node.op_type in _LAYERS and dimensions.get(node.input[1]) == _LAYERS[node.op_type]
    ]
    quantize_static(
        *(prepared, out, Reader()),
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_quantize=layers,
    )


def _openvino_to_int8(graph: Path, out: Path, images: Calibration) -> None:
    """Quantize by NNCF's scheme for transformers."""
    os.environ.setdefault("NNCF_CI", "1")  # without it, NNCF reports its use to Intel unasked
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(graph)
    with contextlib.redirect_stdout(sys.stderr):  # for its progress bars
        quantized = nncf.quantize(
            model, nncf.Dataset(images), subset_size=len(images), model_type=nncf.ModelType.TRANSFORMER
        )
    openvino.save_model(quantized, str(out), compress_to_fp16=False)


_TO_INT8: dict[str, Callable[[Path, Path, Calibration], None]] = {"onnx": _onnx_to_int8, "openvino": _openvino_to_int8}
