"""A trained model in `rfdetr`'s own form: its checkpoint, its loader, its exporter."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rfdetr_hwd.model.rfdetr import StockModel, load_rfdetr


def save_rfdetr(model: StockModel, class_names: Sequence[str], path: Path) -> None:
    """Write a stock model as a checkpoint that `rfdetr.RFDETR.from_checkpoint` loads, class names included.

    Args:
        model: The stock model.
        class_names: Class names in label order.
        path: The `.pth`. It is written to a partial file first, then renamed.

    Raises:
        OSError: It cannot be written.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in model.network.state_dict().items()}
    content = {"model": state, **describe_rfdetr(model, class_names)}
    partial = path.with_name(f".{path.name}.partial")
    torch.save(content, partial)
    partial.replace(path)


def describe_rfdetr(model: StockModel, class_names: Sequence[str]) -> dict[str, Any]:
    """Return what a checkpoint of `rfdetr` holds beside its tensors, as plain values."""
    names = list(class_names)
    return {
        "args": {"num_classes": len(names), "class_names": names, "pretrain_weights": None},
        "model_name": type(model.config).__name__.removesuffix("Config"),
        "model_config": model.config.model_dump(exclude={"device", "pretrain_weights"}),
    }


def loading_line(path: Path) -> str:
    """Return the line of Python that loads a checkpoint, to be typed in the working directory.

    `rfdetr` looks for a name without a directory in its cache of published weights, so it is never given one.
    """
    location = str(path) if path.is_absolute() else f"./{path}"
    return f"from rfdetr import RFDETR; model = RFDETR.from_checkpoint({location!r})"


@dataclass(frozen=True)
class BatchSize:
    """The number of images that a graph takes at once.

    Attributes:
        images: The number; for a dynamic graph, the largest.
        is_dynamic: Accept also any smaller number, and a larger one in formats without a limit.
    """

    images: int = 1
    is_dynamic: bool = False


@dataclass(frozen=True)
class ReleasedModel:
    """A checkpoint as `rfdetr` itself loads it.

    Attributes:
        network: The network, in evaluation mode, on the CPU.
        class_names: Class names in label order.
    """

    network: nn.Module
    class_names: list[str]
    _model: Any

    def export(self, format: str, folder: Path, batch: BatchSize, half: bool = False) -> Path:
        """Write the model in another format with upstream's exporter and return the file.

        Args:
            format: The format.
            folder: Where to write it.
            batch: Its batch size.
            half: Let a TensorRT engine compute in float16; otherwise in float32, without TF32.

        Raises:
            ImportError: The packages that the format needs are not installed. The message names them.
            ValueError: The format is unknown.
        """
        options: dict[str, Any] = {"batch_size": batch.images}
        if format == "openvino":  # it traces a graph for any size; it would also store float16 unasked
            options["openvino_precision"] = "float32"
        else:
            options["dynamic_batch"] = batch.is_dynamic
        if format == "tensorrt":  # float16 is its default
            options["fp16"] = half
            options["max_batch_size"] = batch.images if batch.is_dynamic else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of every shape that it fixes
            path = self._model.export(
                output_dir=str(folder), format=format, verbose=False, output_name="model", **options
            )
        return Path(path)


def load_released(path: Path) -> ReleasedModel:
    """Load a checkpoint with upstream's own loader."""
    model = load_rfdetr(path)
    return ReleasedModel(model.model.model.cpu().eval(), list(model.class_names), model)
