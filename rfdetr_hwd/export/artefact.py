"""What is shipped, ready to run: a trained model, the stock RF-DETR that it folds into, and its graphs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import HasAmp, describe_precision
from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.images import ReadOptions
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import UserError, explaining
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.export.export import export
from rfdetr_hwd.export.formats import PACKAGES, find_missing
from rfdetr_hwd.export.graph import Graph, GraphNetwork
from rfdetr_hwd.export.runtimes import RUNTIMES
from rfdetr_hwd.layers.cost import count_multiply_adds
from rfdetr_hwd.model.fold import FoldError, fold_model
from rfdetr_hwd.model.release import BatchSize, load_released

SUFFIXES = {".onnx": "onnx", ".xml": "openvino", ".engine": "tensorrt"}
"""Formats of graphs by the suffix of their files."""
PORTABLE = {"onnx": "model.onnx", "openvino": "model.xml"}
"""Formats that `open_detector` also opens a model in, with their file names. An engine takes minutes to build."""


class ArtefactError(UserError):
    """A file that is no artefact of this package, or that its runtime cannot run."""


@dataclass(frozen=True)
class Inputs:
    """How images become inputs, and outputs become boxes.

    Attributes:
        resolution: Width and height in pixels.
        resize: How an image is fitted into the square.
        options: How image files are read.
        num_select: Detections of an image.
    """

    resolution: int
    resize: Literal["stretch", "letterbox"]
    options: ReadOptions
    num_select: int


@dataclass(frozen=True)
class Artefact:
    """A model in one of the forms that it is shipped in.

    Attributes:
        source: What the user named: a run, a checkpoint, a file.
        form: `as trained (hwd)`, `stock RF-DETR`, or the format of a graph.
        network: Maps images (N, 3, R, R) to raw outputs, in evaluation mode.
        inputs: Its preprocessing.
        device: Where it runs.
        precision: What it computes in.
        args: Precision, for `amp_context`.
        batch: The batch size that it takes; `None`: any.
        largest: The largest batch size that it takes, if it has a limit.
        size: Bytes of its file.
        parameters: Number of parameters, if it is known.
        multiply_adds: Of one image, if they are known.
        ap: AP on the validation images, if it is known.
        weights_sha256: Hash of the weights file that it was made from.
    """

    source: str
    form: str
    network: nn.Module
    inputs: Inputs
    device: torch.device
    precision: str
    args: HasAmp
    size: int
    batch: int | None = None
    largest: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    ap: float | None = None
    weights_sha256: str = ""


def open_detector(detector: Detector, source: str, images: Tensor, scratch: Path, graphs: bool) -> list[Artefact]:
    """Return a trained model as it was trained, and in the forms that it is shipped in. Their parity is verified.

    Args:
        detector: The trained model, on its device.
        source: What the user named.
        images: Images to verify the parity on, (N, 3, R, R), on the CPU.
        scratch: Directory for the files.
        graphs: Whether to write graphs, too.
    """
    device, config = detector.device, detector.config
    # The model as it was trained, with the AP of its training.
    is_stock, zeros = not detector.model.replacements, torch.zeros(1, 3, detector.resolution, detector.resolution)
    trained = Artefact(
        source=source,
        form="stock RF-DETR" if is_stock else f"as trained ({config.downsample.name})",
        network=detector.network.requires_grad_(False),
        inputs=inputs_of(detector),
        device=device,
        precision=describe_precision(config, device)["precision"],
        args=config,
        size=detector.checkpoint.weights_bytes(detector.weights),
        parameters=sum(parameter.numel() for parameter in detector.network.parameters()),
        multiply_adds=count_multiply_adds(detector.network, zeros.to(device)),
        ap=detector.checkpoint.state.current_metrics.get(f"{detector.weights}/AP"),
    )
    try:
        fold_model(detector.model)
    except FoldError as error:
        say(f"{source}: measured only as trained: {error}")
        return [trained]
    # The stock RF-DETR that it folds into, as rfdetr loads it.
    path = scratch / "stock.pth"
    export(detector, path, images)
    network = load_released(path).network.requires_grad_(False)
    stock = replace(
        trained,
        form="stock RF-DETR",
        network=network.to(device),
        size=path.stat().st_size,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_adds=count_multiply_adds(network, zeros.to(device)),
        ap=None,
    )
    # Its graphs. The export has moved the trained network to the CPU.
    opened = [trained] if is_stock else [trained, stock]
    for format in [name for name in PORTABLE if graphs and is_installed(name)]:
        path = scratch / PORTABLE[format]
        export(detector, path, images, format, BatchSize(1, is_dynamic=True))  # type: ignore[arg-type]
        graph = replace(open_graph(path), source=source, parameters=stock.parameters, multiply_adds=stock.multiply_adds)
        opened.append(graph)
    detector.network.to(device)
    return opened


def evaluate_artefact(artefact: Artefact, detector: Detector, data: DetectionData) -> dict[str, float | None]:
    """Return COCO metrics of an artefact in its own runtime and precision.

    Args:
        artefact: The artefact.
        detector: The trained model that it was made from, for its classes and preprocessing.
        data: The images.
    """
    config = detector.config.model_copy(update={"amp": artefact.args.amp})
    return Evaluation.build(detector.model, data, config, artefact.device).measure(artefact.network)


def inputs_of(detector: Detector) -> Inputs:
    """Return the preprocessing of a trained model."""
    select = detector.model.stock.config.num_select
    return Inputs(detector.resolution, detector.model.resize, detector.options, select)


def is_installed(format: str) -> bool:
    """Return whether the packages that run a format are installed."""
    return not find_missing(PACKAGES[format].run)


@dataclass(frozen=True)
class Float32:
    """No mixed precision, for `amp_context`."""

    amp: bool = False


def open_graph(path: Path) -> Artefact:
    """Open a graph that `rfdetr-hwd export` wrote, in its own runtime.

    Raises:
        ArtefactError: Its package or device is missing, its runtime cannot load it, or it has no metadata of this
            package.
    """
    format = SUFFIXES[path.suffix.lower()]
    if format == "tensorrt" and not torch.cuda.is_available():
        raise ArtefactError(f"{path} runs on a GPU, and this machine has no CUDA device")
    if not is_installed(format):
        raise ArtefactError(f"{path} is run with {RUNTIMES[format].package}: pip install 'rfdetr[{format}]'")
    # The runtimes raise kinds of their own
    with explaining(Exception, f"{path} cannot be loaded by {RUNTIMES[format].package}", ArtefactError):
        graph = RUNTIMES[format].load(path)
    kinds = (KeyError, ValueError)
    with explaining(kinds, f"{path} lacks the metadata of a graph from rfdetr-hwd export", ArtefactError):
        inputs = _read_inputs(graph)
    return Artefact(
        source=str(path),
        form=format,
        network=GraphNetwork(graph).eval(),
        inputs=inputs,
        device=graph.device,
        precision=graph.facts.get("quantization", "float32"),
        args=Float32(),
        size=sum(file.stat().st_size for file in _files(path)),
        batch=graph.batch,
        largest=graph.largest,
        weights_sha256=graph.facts.get("weights_sha256", ""),
    )


def _read_inputs(graph: Graph) -> Inputs:
    facts = graph.facts
    bits, stored = int(facts["bit_depth"]), "as stored" in facts["preprocessing"]
    if facts["resize"] not in ("stretch", "letterbox"):
        raise ValueError(f"resize {facts['resize']!r}")
    resize: Literal["stretch", "letterbox"] = "letterbox" if facts["resize"] == "letterbox" else "stretch"
    options = ReadOptions(bits, "ignore" if stored else "auto")
    return Inputs(int(facts["resolution"]), resize, options, int(facts["num_select"]))


def _files(path: Path) -> Iterator[Path]:
    """Yield the files of a graph: OpenVINO keeps its weights beside it."""
    yield path
    if path.suffix.lower() == ".xml" and path.with_suffix(".bin").is_file():
        yield path.with_suffix(".bin")
