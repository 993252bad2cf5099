"""Report what limits a training: more objects than the model or AP counts, and images in both splits."""

from collections.abc import Iterator

import numpy as np

from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.data.overlap import count_shared
from rfdetr_hwd.model.build import BuiltModel

_AP_DETECTIONS = 100
"""Detections of one class in one image that COCO's AP counts."""


def say_limits(model: BuiltModel, train_data: DetectionData, val_data: DetectionData, max_dets: int | None) -> None:
    """Report limits that cost recall however well the model is trained.

    Args:
        model: The model.
        train_data: The training split.
        val_data: The validation split.
        max_dets: Setting `evaluation.max_dets`.
    """
    lines = [*_of_queries(model), *_of_detections(model, train_data), *_of_detections(model, val_data)]
    for line in lines:
        say(line)
    say_ap_limit(val_data, max_dets)


def say_ap_limit(data: DetectionData, max_dets: int | None) -> None:
    """Say how many images have more objects of one class than AP counts detections."""
    image_rows = np.repeat(np.arange(len(data)), data.objects_per_image())
    pairs, counts = np.unique(image_rows * len(data.class_names) + data.labels, return_counts=True)
    most = int(counts.max(initial=0))
    if most <= _AP_DETECTIONS:
        return
    num_images = len(np.unique(pairs[counts > _AP_DETECTIONS] // len(data.class_names)))
    advice = f"see AP@{max_dets}" if max_dets and max_dets >= most else f"set evaluation.max_dets={most} for AP@{most}"
    say(
        f"{data.name}: images with more than {_AP_DETECTIONS} objects of one class (up to {most}): {num_images}. AP "
        f"counts {_AP_DETECTIONS} detections per class and image: {advice}"
    )


def say_overlap(train_data: DetectionData, val_data: DetectionData) -> None:
    """Say how many validation images are training images."""
    shared = count_shared(train_data, val_data)
    if shared:
        images = f"{'all' if shared == len(val_data) else f'{shared} of'} {len(val_data)} validation images"
        say(f"{val_data.name}: {images} are also training images. AP on them says nothing about new images")


def _of_queries(model: BuiltModel) -> Iterator[str]:
    num_queries, num_proposals = model.stock.config.num_queries, model.stock.num_proposals
    usual, groups = model.stock.usual_queries, model.stock.config.group_detr
    if num_queries > usual:
        in_training, keys = "", "train.micro_batch"
        if groups > 1:
            in_training, keys = (
                f", in training {groups} times as many (model.group_detr)",
                f"model.group_detr or {keys}",
            )
        yield (
            f"model.num_queries={num_queries} instead of {usual}: in each image a decoder layer compares "
            f"{num_queries**2:,} pairs of queries instead of {usual**2:,}{in_training}. The loss matches "
            f"{groups * num_queries:,} queries to the objects instead of {groups * usual:,}. If memory is short, lower "
            f"{keys}"
        )
    if num_queries > num_proposals:
        yield (
            f"model.num_queries={num_queries}: at {model.stock.resolution} px the encoder proposes {num_proposals} "
            "boxes, one per position of its feature levels. The other queries start without a proposal. Raise "
            "model.resolution, or add to model.levels"
        )


def _of_detections(model: BuiltModel, data: DetectionData) -> Iterator[str]:
    config, counts = model.stock.config, data.objects_per_image()
    limit = min(config.num_queries, config.num_select)
    most = int(counts.max(initial=0))
    if most > limit:
        name = "model.num_queries" if config.num_queries <= config.num_select else "model.num_select"
        yield (
            f"{data.name}: images with more than {limit} objects (up to {most}): {int((counts > limit).sum())}. The "
            f"model finds at most {limit} objects in an image: set {name}={most} or more"
        )
