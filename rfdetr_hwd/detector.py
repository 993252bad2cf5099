"""A trained detector for inference, rebuilt from its checkpoint alone."""

import itertools
import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import supervision as sv
import torch
from torch import Tensor

from rfdetr_hwd.amp import forward_in_amp
from rfdetr_hwd.checkpoint.read import Checkpoint
from rfdetr_hwd.checkpoint.record import find_checkpoint, read_record
from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.batch import Batch, join, unlabelled
from rfdetr_hwd.data.detect import read_options
from rfdetr_hwd.data.image_input import ImageLike, as_rgb, check_images, is_image
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.model.build import BuiltModel, load_model
from rfdetr_hwd.model.rfdetr import build_postprocess

_BATCH = 8
"""Images per forward pass."""

DEFAULT_THRESHOLD = 0.5
"""Confidence threshold of a model without a recorded one."""

Threshold = float | Mapping[str, float] | None
"""A confidence threshold of all classes, or of each class by name; `None`: that of the model."""


class Detector:
    """A trained detector.

    Attributes:
        config: The configuration it was trained with.
        class_names: Class names in label order.
        weights: The weights in use, `ema` or `raw`.
        checkpoint: The checkpoint it was loaded from.
        options: How images are read, as in its training.

    Example:
        >>> detector = Detector.load("runs/demo")  # doctest: +SKIP
        >>> detector.predict("cells.jpg").xyxy  # doctest: +SKIP
    """

    def __init__(self, model: BuiltModel, config: Config, checkpoint: Checkpoint, weights: str) -> None:
        self.model, self.config, self.checkpoint, self.weights = model, config, checkpoint, weights
        self.class_names = model.class_names
        self.options = read_options(config.data)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = model.network.to(self.device).eval()
        self.postprocess = build_postprocess(model.stock)

    @classmethod
    def load(cls, path: str | os.PathLike[str], which: str = "auto", overrides: Sequence[str] = ()) -> Self:
        """Rebuild a detector from a run directory (its best weights) or a checkpoint directory.

        Args:
            path: The directory.
            which: `ema`, `raw`, or `auto`, the weights with the better validation AP.
            overrides: `key=value` assignments on the recorded configuration. The model stays as recorded.

        Raises:
            ConfigError: `path` is not a path.
            CheckpointError: The path is no run or checkpoint directory, is corrupt, or lacks these weights.
        """
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"a model is the path of a run or checkpoint directory, not {reprlib.repr(path)}")
        checkpoint = find_checkpoint(Path(path))
        config, class_names = read_record(checkpoint, overrides)
        weights = which if which != "auto" else checkpoint.better_weights
        built = load_model(config.model, config.downsample, class_names, checkpoint.weights(weights))
        return cls(built, config, checkpoint, weights)

    @property
    def threshold(self) -> float:
        """Default confidence threshold: that of the best F1 on the validation images, or 0.5 if it is not recorded."""
        return stored if (stored := self._stored_threshold("threshold")) is not None else DEFAULT_THRESHOLD

    @property
    def has_threshold(self) -> bool:
        """Whether a confidence threshold is recorded with the checkpoint."""
        return self._stored_threshold("threshold") is not None

    @property
    def class_thresholds(self) -> dict[str, float]:
        """Confidence threshold of each class by name: that of its best F1, or `threshold` if it is not recorded."""
        found = {name: self._stored_threshold(f"threshold/{name}") for name in self.class_names}
        return {name: self.threshold if value is None else value for name, value in found.items()}

    def _stored_threshold(self, name: str) -> float | None:
        return self.checkpoint.state.current_metrics.get(f"{self.weights}/{name}")

    @property
    def resolution(self) -> int:
        """Input resolution, the width and height in pixels."""
        return self.model.stock.resolution

    def describe(self) -> dict[str, Any]:
        """Return what is evaluated, for the record of its metrics: weights, checkpoint, resolution, preprocessing."""
        return {
            "num_select": self.model.stock.config.num_select,
            "resolution": self.resolution,
            "preprocessing": f"{self.model.resize} into a square, bilinear, antialiased",
            "weights": self.weights,
            "weights_sha256": self.checkpoint.weights_sha256(self.weights),
            "checkpoint": str(self.checkpoint.path),
            "step": self.checkpoint.step,
        }

    @overload
    def predict(self, images: ImageLike, threshold: Threshold = ...) -> sv.Detections: ...
    @overload
    def predict(self, images: Iterable[ImageLike], threshold: Threshold = ...) -> list[sv.Detections]: ...
    def predict(
        self, images: ImageLike | Iterable[ImageLike], threshold: Threshold = None
    ) -> sv.Detections | list[sv.Detections]:
        """Detect objects in one image, or in several.

        Args:
            images: One image, or any number of them, also of different kinds: a list, a generator, a batch as an array
                (N, H, W, 3) or a tensor (N, 3, H, W). An image is a path, a PIL image, a NumPy array (H, W, 3) or a
                tensor (3, H, W), of any size. Arrays and tensors are RGB (OpenCV reads BGR: reverse its channels) and
                hold uint8, or floating-point numbers in [0, 1]. See `rfdetr_hwd.data.image_input.ImageLike`. Images
                are processed in small batches and not kept, so a generator may yield more than fit into memory.
            threshold: Confidence threshold in [0, 1], of all classes or of each by name. `None`: `self.threshold`.

        Returns:
            The detections of the image. For several images, a list of detections in the same order. Each has `xyxy`
            (K, 4), `confidence` (K,), `class_id` (K,) and `data["class_name"]` (K,), by descending confidence. Boxes
            are in pixels and clipped to the image, which is upright, or as stored with `data.exif=ignore`.

        Raises:
            ImageError: An image cannot be read, or has an unsupported kind, type, shape or range. The message names it.
            ConfigError: A threshold is not in [0, 1], a class has none, or there is no such class.
        """
        thresholds = self._thresholds(self.threshold if threshold is None else threshold)
        if is_image(images):
            return self._detect([self._prepare(images, "the image")], thresholds)[0]
        numbered = enumerate(check_images(images))
        found: list[sv.Detections] = []
        while batch := [self._prepare(image, f"images[{i}]") for i, image in itertools.islice(numbered, _BATCH)]:
            found += self._detect(batch, thresholds)
        return found

    def _thresholds(self, threshold: float | Mapping[str, float]) -> Tensor:
        """Return the threshold of each label, shape (C + 1,). The network's unused logit is never kept."""
        by_class = threshold if isinstance(threshold, Mapping) else dict.fromkeys(self.class_names, threshold)
        missing = [name for name in self.class_names if name not in by_class]
        if missing:
            raise ConfigError(f"there is no threshold of the class {missing[0]!r}")
        unknown = [name for name in by_class if name not in self.class_names]
        if unknown:
            raise ConfigError(f"there is no class {unknown[0]!r}. The classes are {', '.join(self.class_names)}")
        for name in self.class_names:
            if not isinstance(by_class[name], Real) or not 0 <= by_class[name] <= 1:
                raise ConfigError(f"the threshold {by_class[name]!r} is not a number between 0 and 1")
        return torch.tensor([*(by_class[name] for name in self.class_names), float("inf")], device=self.device)

    def _prepare(self, image: object, name: str) -> Batch:
        return unlabelled(as_rgb(image, name, self.options), self.resolution, self.model.resize)

    def _detect(self, images: Sequence[Batch], thresholds: Tensor) -> list[sv.Detections]:
        with torch.inference_mode():
            batch = join(images).to(self.device)
            results = self.postprocess(forward_in_amp(self.network, batch.images, self.config), batch.sizes)
        return [self._detections(result, thresholds) for result in results]

    def _detections(self, result: dict[str, Tensor], thresholds: Tensor) -> sv.Detections:
        keep = result["scores"] >= thresholds[result["labels"].clamp_max(len(self.class_names))]
        boxes_xyxy, scores, labels = (result[key][keep].cpu().numpy() for key in ("boxes", "scores", "labels"))
        detections = sv.Detections(xyxy=boxes_xyxy, confidence=scores, class_id=labels)
        detections.data["class_name"] = np.array([self.class_names[label] for label in labels], dtype=str)
        return detections
