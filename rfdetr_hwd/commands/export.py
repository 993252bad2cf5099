"""`rfdetr-hwd export`: hand a trained model to the RF-DETR ecosystem, and show that it is the same model."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rfdetr_hwd.commands.run_data import read_validation
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.images import IMAGE_SUFFIXES, read_image
from rfdetr_hwd.data.transforms import preprocess
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import ConfigError, UserError
from rfdetr_hwd.evaluation import Evaluation
from rfdetr_hwd.model.fold import fold_model
from rfdetr_hwd.model.upstream import ReleasedModel, load_released, save_rfdetr
from rfdetr_hwd.terminal import say

RELATIVE_TOLERANCE = 1e-5
"""Largest difference of raw outputs between the trained model and the released one, relative to the largest output."""
RUNTIME_TOLERANCE = 1e-3
"""The same for another runtime (onnxruntime, OpenVINO), whose kernels sum in another order."""
FORMATS = ("rfdetr", "onnx", "openvino", "tensorrt", "tflite", "litert", "executorch", "coreml", "coreai")
"""A checkpoint of `rfdetr`, and the formats of upstream's exporter."""
_NUM_IMAGES = 8
_Array = np.ndarray[Any, Any]


class ExportError(UserError):
    """An export that is not the same model, or cannot be made."""


def run(
    weights: Path, format: str, out: Path, which: str, images: Path | None, check_ap: bool, overrides: list[str]
) -> None:
    """Fold, write, load the written file with upstream's own loader, and compare before reporting success.

    Args:
        weights: Run folder (its best checkpoint) or checkpoint folder.
        format: `rfdetr`, or a format of upstream's exporter: `onnx`, `openvino`, `tensorrt`, ...
        out: The file to write.
        which: `ema`, `plain` or `auto`.
        images: Folder of images to compare on; by default the validation split the model was trained with.
        check_ap: Also compare AP over the validation split.
        overrides: `key=value` assignments, such as `data.root`.

    Raises:
        UserError: The downsampler does not fold, a format's packages are missing, or the comparison fails.
    """
    if format not in FORMATS:
        raise ConfigError(f"--format {format} is unknown; known are {', '.join(FORMATS)}")
    detector = Detector.load(weights, which, overrides)
    batch = _read_batch(detector, images)
    _make_room(out, format)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch:
        checkpoint = Path(scratch) / "stock.pth"
        stock = fold_model(detector.model)
        save_rfdetr(stock, detector.class_names, checkpoint)
        released = load_released(checkpoint)
        _check_released(detector, released, stock.network, batch)
        written = checkpoint if format == "rfdetr" else _convert(released, format, Path(scratch))
        if format in _RUNTIMES:
            _check_runtime(format, written, released, batch)
        elif format != "rfdetr":
            say(f"{format}: written by upstream's exporter; not compared, because no runtime for it is used here")
        if check_ap:
            _check_ap(detector, released)
        if format == "openvino":  # the graph's weights, which it looks for beside itself under its own name
            shutil.move(written.with_suffix(".bin"), out.with_suffix(".bin"))
        shutil.move(written, out)  # a file, or the folder that some formats are
    if detector.model.resize == "letterbox":
        say("the model was trained on letterboxed images: give the released one such images, for it stretches others")
    say(f"written: {out} ({detector.weights} weights of {detector.checkpoint.path})")


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
        found = [read_image(path) for path in paths]
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


@torch.inference_mode()
def _check_released(detector: Detector, released: ReleasedModel, stock: nn.Module, batch: Tensor) -> None:
    """Compare what upstream's loader made of the file with the trained model: keys, class names, raw outputs."""
    ours, theirs = stock.state_dict(), released.network.state_dict()
    shapes = [{key: tuple(value.shape) for key, value in state.items()} for state in (ours, theirs)]
    if shapes[0] != shapes[1] or any(not torch.equal(theirs[key].cpu(), ours[key].cpu()) for key in ours):
        raise ExportError(
            "the file does not load key by key with rfdetr; this is a defect of rfdetr-hwd, please report it"
        )
    if released.class_names != list(detector.class_names):
        raise ExportError(f"rfdetr reads the class names {released.class_names}, not {list(detector.class_names)}")
    trained = detector.network.float().cpu().eval()(batch)
    difference = _relative_difference(trained, released.network(batch))
    say(
        f"rfdetr: {len(ours)} tensors, every key matched; raw outputs on {len(batch)} images differ by {difference:.1e}"
    )
    if difference > RELATIVE_TOLERANCE:
        raise ExportError(
            f"the released model's outputs differ by {difference:.1e}, more than {RELATIVE_TOLERANCE:.0e}"
        )


def _convert(released: ReleasedModel, format: str, folder: Path) -> Path:
    try:
        return released.export(format, folder)
    except ImportError as error:
        raise ExportError(f"--format {format} needs packages that are not installed: {error}") from None
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"--format {format}: {error}") from None


@torch.inference_mode()
def _check_runtime(format: str, path: Path, released: ReleasedModel, batch: Tensor) -> None:
    """Run the written graph in its own runtime on the same images and compare."""
    module, run = _RUNTIMES[format]
    try:
        outputs = run(path, [image[None].numpy() for image in batch])
    except ImportError:
        raise ExportError(f"--format {format} is checked with {module}: pip install {module}") from None
    boxes, logits = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*outputs, strict=True))
    difference = _relative_difference({"pred_boxes": boxes, "pred_logits": logits}, released.network(batch))
    say(f"{format}: {module}'s outputs on {len(batch)} images differ by {difference:.1e}")
    if difference > RUNTIME_TOLERANCE:
        raise ExportError(f"the {format} model's outputs differ by {difference:.1e}, more than {RUNTIME_TOLERANCE:.0e}")


def _run_onnx(path: Path, images: list[_Array]) -> list[tuple[_Array, _Array]]:
    """Return the boxes and logits of every image, by onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [tuple(session.run(["dets", "labels"], {name: image})) for image in images]


def _run_openvino(path: Path, images: list[_Array]) -> list[tuple[_Array, _Array]]:
    """Return the boxes and logits of every image, by OpenVINO in float32."""
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = [compiled([image]) for image in images]
    return [(output[0].copy(), output[1].copy()) for output in outputs]


_RUNTIMES: dict[str, tuple[str, Callable[[Path, list[_Array]], list[tuple[_Array, _Array]]]]] = {
    "onnx": ("onnxruntime", _run_onnx),
    "openvino": ("openvino", _run_openvino),
}
"""Format: the package that runs it, and how."""


def _check_ap(detector: Detector, released: ReleasedModel) -> None:
    """Evaluate both models over the validation split and print the gap."""
    data = _validation_data(detector)
    evaluation = Evaluation.build(detector.model, data, detector.config, detector.device)
    networks = (detector.network.to(detector.device), released.network.to(detector.device))
    ap = [evaluation.measure(network)["AP"] for network in networks]
    say(f"AP over {len(data)} images: trained {ap[0]:.6f}, released {ap[1]:.6f}, gap {ap[1] - ap[0]:+.1e}")


def _relative_difference(outputs: dict[str, Any], expected: dict[str, Any]) -> float:
    """Return the largest difference of boxes and logits, relative to the largest expected value of each."""
    return max(
        float((outputs[key] - expected[key]).abs().max() / expected[key].abs().max().clamp_min(1e-12))
        for key in ("pred_boxes", "pred_logits")
    )
