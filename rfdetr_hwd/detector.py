"""A trained model ready to use: rebuilt from its checkpoint alone, images in, detections out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import PIL.Image
import supervision as sv
import torch
from torch import Tensor

from rfdetr_hwd.amp import forward_in_amp
from rfdetr_hwd.config import Config
from rfdetr_hwd.data.images import to_rgb
from rfdetr_hwd.data.transforms import canvas_size, preprocess
from rfdetr_hwd.engine.checkpoint import Checkpoint
from rfdetr_hwd.model.build import BuiltModel, load_model
from rfdetr_hwd.model.upstream import build_postprocess
from rfdetr_hwd.recorded import find_checkpoint, read_options, read_record


class Detector:
    """A trained detector.

    Attributes:
        config: The configuration it was trained with.
        class_names: Class names in label order.
        weights: Which weights it runs, `ema` or `plain`.
        checkpoint: Where it comes from.
        options: How it reads images, which is how it was trained on them.

    Example:
        >>> detector = Detector.load("runs/demo")  # doctest: +SKIP
        >>> detector.predict([PIL.Image.open("cells.jpg")])[0].xyxy  # doctest: +SKIP
    """

    def __init__(self, model: BuiltModel, config: Config, checkpoint: Checkpoint, weights: str) -> None:
        self.model, self.config, self.checkpoint, self.weights = model, config, checkpoint, weights
        self.class_names = model.class_names
        self.options = read_options(config.data)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = model.network.to(self.device).eval()
        self.postprocess = build_postprocess(model.stock)

    @classmethod
    def load(cls, path: str | Path, which: str = "auto", overrides: Sequence[str] = ()) -> Self:
        """Rebuild a detector from a run folder (its best weights) or a checkpoint folder.

        Args:
            path: The folder.
            which: `ema`, `plain`, or `auto`: what the training found better.
            overrides: `key=value` assignments on the recorded configuration; the model stays as recorded.

        Raises:
            CheckpointError: The path is not such a folder, is damaged, or has no such weights.
        """
        checkpoint = find_checkpoint(Path(path))
        config, class_names = read_record(checkpoint, overrides)
        weights = which if which != "auto" else checkpoint.better_weights
        built = load_model(config.model, config.downsample, class_names, checkpoint.weights(weights))
        return cls(built, config, checkpoint, weights)

    @property
    def resolution(self) -> int:
        """Side of the square input in pixels."""
        return self.model.stock.resolution

    def predict(self, images: Sequence[PIL.Image.Image], threshold: float = 0.5) -> list[sv.Detections]:
        """Detect objects.

        Args:
            images: Images of any size and mode.
            threshold: Lowest score to keep, in [0, 1].

        Returns:
            For each image its detections: `xyxy` (K, 4) in pixels, `confidence` (K,), `class_id` (K,) as label and
            `data["class_name"]` (K,), by falling confidence.
        """
        side, resize = self.resolution, self.model.resize
        upright = [to_rgb(image, self.options) for image in images]
        batch = torch.stack([preprocess(image, side, resize) for image in upright]).to(self.device)
        sizes = torch.tensor(
            [canvas_size(image.height, image.width, side, resize) for image in upright], device=self.device
        )
        with torch.inference_mode():
            outputs = forward_in_amp(self.network, batch, self.config)
            results = self.postprocess(outputs, sizes)
        return [self._detections(result, threshold) for result in results]

    def _detections(self, result: dict[str, Tensor], threshold: float) -> sv.Detections:
        keep = (result["scores"] >= threshold) & (result["labels"] < len(self.class_names))
        boxes_xyxy, scores, labels = (result[key][keep].cpu().numpy() for key in ("boxes", "scores", "labels"))
        detections = sv.Detections(xyxy=boxes_xyxy, confidence=scores, class_id=labels)
        detections.data["class_name"] = np.array([self.class_names[label] for label in labels], dtype=str)
        return detections
