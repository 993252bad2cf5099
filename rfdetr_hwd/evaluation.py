"""Measure a model on a split: the one road of training, `evaluate` and `export`."""

from dataclasses import dataclass

import torch
from torch import nn

from rfdetr_hwd.config import Config
from rfdetr_hwd.data.loader import DetectionDataset, EvalLoader, Shard
from rfdetr_hwd.data.source import DetectionData
from rfdetr_hwd.engine import distributed
from rfdetr_hwd.engine.evaluator import evaluate
from rfdetr_hwd.engine.interrupt import StopRequest
from rfdetr_hwd.metrics.coco import CocoMetric
from rfdetr_hwd.model.build import BuiltModel
from rfdetr_hwd.model.upstream import build_postprocess


@dataclass(frozen=True)
class Evaluation:
    """A split, a metric and a precision, ready to measure networks of one model.

    Attributes:
        loader: This process's part of the images.
        metric: Holds the detections of the last measurement, on rank 0.
        postprocess: Decodes outputs.
        config: Precision.
        device: Where the networks are.
    """

    loader: EvalLoader
    metric: CocoMetric
    postprocess: nn.Module
    config: Config
    device: torch.device

    @classmethod
    def build(cls, model: BuiltModel, data: DetectionData, config: Config, device: torch.device) -> "Evaluation":
        """Prepare to measure networks of a model on a split.

        Raises:
            DatasetError: The split does not have the model's classes.
        """
        settings = config.evaluation
        shard = Shard(distributed.rank(), distributed.world_size())
        side, workers = model.stock.resolution, config.data.workers
        return cls(
            loader=EvalLoader(DetectionDataset(data), side, settings.batch_size, workers, shard),
            metric=CocoMetric(
                data.ground_truth(), data.category_ids_of(model.class_names), settings.max_dets, settings.backend
            ),
            postprocess=build_postprocess(model.stock),
            config=config,
            device=device,
        )

    def measure(self, network: nn.Module, stop: StopRequest | None = None) -> dict[str, float]:
        """Return COCO's figures of a network, the same on every rank; `stop` is looked at after every batch."""
        return evaluate(network, self.loader, self.postprocess, self.metric, self.config, self.device, stop)
