"""The runtimes that exported graphs are adapted to and run in: onnxruntime, OpenVINO and TensorRT."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.export.graph import INPUT, OUTPUTS, Array, Graph
from rfdetr_hwd.export.tensorrt import finish_engine, load_engine, note_engine
from rfdetr_hwd.model.release import BatchSize


@dataclass(frozen=True)
class Runtime:
    """The runtime of a format.

    Attributes:
        package: The package.
        load: Loads a graph.
        finish: Writes facts about the model into a graph, given with its batch size and resolution; returns its path.
        note: Adds facts to those of a graph.
    """

    package: str
    load: Callable[[Path], Graph]
    finish: Callable[[Path, Mapping[str, str], BatchSize, int], Path]
    note: Callable[[Path, Mapping[str, str]], None]


def _finish_onnx(path: Path, facts: Mapping[str, str], size: BatchSize, resolution: int) -> Path:
    _note_onnx(path, facts)
    return path


def _note_onnx(path: Path, facts: Mapping[str, str]) -> None:
    import onnx

    model = onnx.load(path)
    known = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**known, **facts})
    onnx.save(model, path)


def _load_onnx(path: Path) -> Graph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: it warns of every constant that it cannot fold in float16
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[0]
    return Graph(
        _on_tensors(lambda batch: session.run(list(OUTPUTS), {INPUT: batch})),
        size if isinstance(size, int) else None,
        session.get_modelmeta().custom_metadata_map,
    )


def _finish_openvino(path: Path, facts: Mapping[str, str], size: BatchSize, resolution: int) -> Path:
    """Set names and the input shape of a graph, which the exporter of rfdetr leaves open."""
    import openvino

    model = openvino.Core().read_model(path)
    model.reshape([-1 if size.is_dynamic else size.images, 3, resolution, resolution])
    model.input(0).tensor.set_names({INPUT})
    for output, name in zip(model.outputs, OUTPUTS, strict=True):
        output.tensor.set_names({name})
    finished = path.with_name(f"finished-{path.name}")
    _save_openvino(model, facts, finished)
    return finished


def _note_openvino(path: Path, facts: Mapping[str, str]) -> None:
    import openvino

    # Under another name, because the weights are read from the file until the model is saved
    noted = path.with_name(f"noted-{path.name}")
    _save_openvino(openvino.Core().read_model(path), facts, noted)
    for suffix in (".bin", ".xml"):
        noted.with_suffix(suffix).replace(path.with_suffix(suffix))


def _save_openvino(model: Any, facts: Mapping[str, str], path: Path) -> None:
    import openvino

    for name, fact in facts.items():
        model.set_rt_info(fact, ["model_info", name])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def _load_openvino(path: Path) -> Graph:
    import openvino

    model = openvino.Core().read_model(str(path))
    facts = model.get_rt_info("model_info").astype(dict) if model.has_rt_info("model_info") else {}
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    size = model.input(0).partial_shape[0]

    def run(batch: Array) -> Sequence[Array]:
        output = compiled([batch])
        return output[0].copy(), output[1].copy()

    texts = {name: fact.astype(str) for name, fact in facts.items()}
    return Graph(_on_tensors(run), size.get_length() if size.is_static else None, texts)


def _on_tensors(run: Callable[[Array], Sequence[Array]]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Let a function of arrays take and return tensors on the CPU."""

    def on_tensors(images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, logits = map(torch.from_numpy, run(images.numpy()))
        return boxes, logits

    return on_tensors


RUNTIMES = {
    "onnx": Runtime("onnxruntime", _load_onnx, _finish_onnx, _note_onnx),
    "openvino": Runtime("openvino", _load_openvino, _finish_openvino, _note_openvino),
    "tensorrt": Runtime("tensorrt", load_engine, finish_engine, note_engine),
}
"""The formats whose graphs are run and verified before they are written."""


def check_device(format: str) -> None:
    """Refuse to build a TensorRT engine without a GPU.

    Raises:
        ConfigError: This machine has no CUDA device.
    """
    if format == "tensorrt" and not torch.cuda.is_available():
        raise ConfigError(
            "--format tensorrt: an engine is built for the GPU of the machine, and this machine has no CUDA device. "
            "Export where the engine will run, or use --format onnx"
        )
