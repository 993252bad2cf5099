"""Measure a model on a split: the one road of training, `evaluate` and `export`."""

from dataclasses import dataclass

import torch
from torch import nn

from rfdetr_hwd.config import Config
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.dataset import DetectionDataset
from rfdetr_hwd.data.loader import EvalLoader, Shard
from rfdetr_hwd.data.quarantine import log_left_out
from rfdetr_hwd.data.workers import Workers
from rfdetr_hwd.engine import distributed
from rfdetr_hwd.engine.evaluator import evaluate
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
            DatasetError: The split has none of the model's classes.
        """
        settings = config.evaluation
        shard = Shard(distributed.rank(), distributed.world_size())
        dataset = DetectionDataset(data, None, config.model.resize, config.data.on_bad_image)
        workers = Workers(config.data.workers, config.data.worker_timeout)
        classes = data.map_classes(model.class_names)
        return cls(
            loader=EvalLoader(
                dataset, model.stock.resolution, settings.batch_size, workers, shard, report=log_left_out
            ),
            metric=CocoMetric(data.ground_truth(), classes.category_ids, settings.max_dets, settings.backend),
            postprocess=build_postprocess(model.stock),
            config=config,
            device=device,
        )

    def measure(self, network: nn.Module) -> dict[str, float]:
        """Return COCO's figures of a network, the same on every rank."""
        return evaluate(network, self.loader, self.postprocess, self.metric, self.config, self.device)
