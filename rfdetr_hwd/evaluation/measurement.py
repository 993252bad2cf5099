"""Evaluate a model on a split. Training, `evaluate` and `export` share this code."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import nn

from rfdetr_hwd.config.schema import Config
from rfdetr_hwd.data.annotations import ClassMap, DetectionData
from rfdetr_hwd.data.batch import BadImage
from rfdetr_hwd.data.corruptions import Corruption
from rfdetr_hwd.data.dataset import DetectionDataset
from rfdetr_hwd.data.findings import DatasetError
from rfdetr_hwd.data.loader import EvalLoader, Partition
from rfdetr_hwd.data.quarantine import refuse_too_many
from rfdetr_hwd.data.workers import Workers
from rfdetr_hwd.evaluation.auto_batch import largest_evaluation_pass
from rfdetr_hwd.evaluation.coco import CocoMetric
from rfdetr_hwd.evaluation.detections import Detections
from rfdetr_hwd.evaluation.evaluate import PassSize, detect_in_amp, evaluate
from rfdetr_hwd.model.build import BuiltModel
from rfdetr_hwd.model.rfdetr import build_postprocess
from rfdetr_hwd.runtime import distributed
from rfdetr_hwd.runtime.interrupt import StopRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """A split, a metric and a precision, ready to evaluate networks of one model.

    Attributes:
        loader: This rank's part of the images.
        metric: Holds the detections of the last evaluation, on rank 0.
        postprocess: Decodes outputs.
        config: Precision.
        device: Where the networks are.
        pass_size: Images of one forward pass that fit into memory.
        unreadable: Unreadable images, which were skipped, by id.
        found: Detections of the networks of the last `measure_each`, by their names, on rank 0.
    """

    loader: EvalLoader
    metric: CocoMetric
    postprocess: nn.Module
    config: Config
    device: torch.device
    pass_size: PassSize
    unreadable: dict[int, BadImage] = field(default_factory=dict)
    found: dict[str, Detections] = field(default_factory=dict)

    @classmethod
    def build(cls, model: BuiltModel, data: DetectionData, config: Config, device: torch.device) -> "Evaluation":
        """Prepare to evaluate networks of a model on a split.

        Args:
            model: The model, for its classes and preprocessing.
            data: The split.
            config: Settings of data, evaluation and precision.
            device: Where the networks are.

        Raises:
            DatasetError: The split has none of the model's classes, or no object of them.
        """
        settings = config.evaluation
        partition = Partition(distributed.rank(), distributed.world_size())
        dataset = DetectionDataset(data, None, model.resize, config.data.on_bad_image)
        workers = Workers(config.data.workers, config.data.worker_timeout)
        classes = data.map_classes(model.class_names)
        _refuse_nothing(data, classes)
        unreadable: dict[int, BadImage] = {}
        return cls(
            loader=EvalLoader(
                dataset, model.stock.resolution, settings.batch_size, workers, partition, partial(_note, unreadable)
            ),
            metric=CocoMetric(data.ground_truth(), classes.category_ids, settings.max_dets, settings.backend),
            postprocess=build_postprocess(model.stock),
            config=config,
            device=device,
            pass_size=PassSize(settings.batch_size),
            unreadable=unreadable,
        )

    def corrupted(self, corruption: Corruption) -> "Evaluation":
        """Return an evaluation of the same images, corrupted. What is known of memory and bad images is shared."""
        return replace(self, loader=self.loader.corrupted(corruption))

    def fit_into_memory(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Find, on a GPU, the largest evaluation batch that fits beside the training of the network."""
        if self.device.type != "cuda":
            return
        wanted = self.pass_size.images
        self.pass_size.images = largest_evaluation_pass(network, optimizer, self.loader.resolution, wanted, self.config)
        if self.pass_size.images < wanted:
            logger.warning(
                "evaluation.batch_size=%d does not fit into memory: evaluating %d images at once",
                wanted,
                self.pass_size.images,
            )

    def measure_each(self, networks: Mapping[str, nn.Module], stop: StopRequest) -> dict[str, dict[str, float | None]]:
        """Return the metrics of each network by its name, and keep its detections; see `measure`."""
        self.found.clear()
        metrics = {}
        for name, network in networks.items():
            metrics[name] = self.measure(network, stop)
            if distributed.is_main():
                self.found[name] = self.metric.detections
        return metrics

    def measure(self, network: nn.Module, stop: StopRequest | None = None) -> dict[str, float | None]:
        """Return COCO's metrics of a network, the same on every rank; `None`: no such object.

        The objects of an unreadable image count as missed. `unreadable` lists such images of all ranks.

        Args:
            network: The network, on the device.
            stop: Checked after every batch.

        Raises:
            DatasetError: Too large a fraction of the images is unreadable.
        """
        detect = partial(detect_in_amp, postprocess=self.postprocess, args=self.config, device=self.device)
        metrics = evaluate(network, self.loader, detect, self.metric, self.pass_size, stop)
        for found in distributed.all_gather_objects(dict(self.unreadable)):
            self.unreadable.update(found)
        num_images = len(self.metric.ground_truth["images"])
        refuse_too_many(len(self.unreadable), num_images, list(self.unreadable.values()))
        return metrics


def _refuse_nothing(data: DetectionData, classes: ClassMap) -> None:
    """Refuse a split in which no detection could be correct: its AP would be undefined, or always 0.

    Raises:
        DatasetError: No object of a class that the model knows has an area and is no crowd region.
    """
    lack = data.describe_lack()
    known = [data.category_ids.index(category_id) for category_id in classes.category_ids if category_id is not None]
    if not lack and not np.isin(data.labels[data.usable()], known).any():
        lack = "none of its objects is of a class that the model has"
    if lack:
        raise DatasetError(
            f"{data.images}: there is nothing to evaluate on in the split {data.name}: {lack}. Correct its "
            "annotations, or name another split (data.val, data.test)"
        )


def _note(unreadable: dict[int, BadImage], bad: BadImage) -> None:
    """Record an unreadable image, with one warning."""
    if bad.image_id not in unreadable:
        logger.warning("skipped in the evaluation (its objects count as missed): %s", bad.reason)
    unreadable[bad.image_id] = bad
