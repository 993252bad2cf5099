"""The runtimes that exported graphs are adapted to and verified in: onnxruntime and OpenVINO."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rfdetr_hwd.model.release import BatchSize

Array = np.ndarray[Any, Any]
INPUT, OUTPUTS = "input", ("dets", "labels")
"""Names in ONNX graphs of rfdetr: the images, and the boxes and logits."""


@dataclass(frozen=True)
class Runtime:
    """The runtime of a format.

    Attributes:
        package: The package.
        run: Runs a graph on batches (n, 3, R, R), and returns boxes and logits of each.
        finish: Writes facts about the model into a graph, given with its batch size and resolution; returns its path.
    """

    package: str
    run: Callable[[Path, list[Array]], list[tuple[Array, Array]]]
    finish: Callable[[Path, Mapping[str, str], BatchSize, int], Path]


def _finish_onnx(path: Path, facts: Mapping[str, str], size: BatchSize, resolution: int) -> Path:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(facts))
    onnx.save(model, path)
    return path


def _run_onnx(path: Path, batches: list[Array]) -> list[tuple[Array, Array]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [tuple(session.run(list(OUTPUTS), {INPUT: batch})) for batch in batches]


def _finish_openvino(path: Path, facts: Mapping[str, str], size: BatchSize, resolution: int) -> Path:
    """Set names and the input shape of a graph, which the exporter of rfdetr leaves open."""
    import openvino

    model = openvino.Core().read_model(path)
    model.reshape([-1 if size.is_dynamic else size.images, 3, resolution, resolution])
    model.input(0).tensor.set_names({INPUT})
    for output, name in zip(model.outputs, OUTPUTS, strict=True):
        output.tensor.set_names({name})
    for name, fact in facts.items():
        model.set_rt_info(fact, ["model_info", name])
    finished = path.with_name(f"finished-{path.name}")
    openvino.save_model(model, str(finished), compress_to_fp16=False)
    return finished


def _run_openvino(path: Path, batches: list[Array]) -> list[tuple[Array, Array]]:
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = [compiled([batch]) for batch in batches]
    return [(output[0].copy(), output[1].copy()) for output in outputs]


RUNTIMES = {
    "onnx": Runtime("onnxruntime", _run_onnx, _finish_onnx),
    "openvino": Runtime("openvino", _run_openvino, _finish_openvino),
}
"""The formats whose graphs are run and verified before they are written."""
