"""Training without its random part, validation, prediction and export see the same pixels, to the last bit."""

import dataclasses
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from rfdetr_hwd.config.augmentation import AugmentSection
from rfdetr_hwd.data.augmentation import Augmentation
from rfdetr_hwd.data.dataset import DetectionDataset, SampleKey
from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.loader import EvalLoader, Partition
from rfdetr_hwd.data.read import read_split
from rfdetr_hwd.data.workers import Workers
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.evaluation.measurement import Evaluation
from rfdetr_hwd.export.export import sample_images


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_all_roads_see_the_same_pixels(trained: Path, shapes_root: Path, resize: str) -> None:
    detector = Detector.load(trained)
    detector.model = dataclasses.replace(detector.model, resize=resize)
    side = detector.resolution
    data = read_split(find_layout(shapes_root).split("val"))
    seen: list[torch.Tensor] = []
    detector.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    detector.predict([PIL.Image.open(data.path(0))])
    still = Augmentation(0, AugmentSection(flip=0.0, crop=0.0, min_crop=1.0))
    train = DetectionDataset(data, still, resize)[SampleKey(0, 3, side)]
    batches = EvalLoader(DetectionDataset(data, None, resize), side, 2, Workers(0, 60), Partition(), print)
    batches = [batch.to(detector.device) for batch in (train, next(iter(batches)))]
    roads = [*(batch.images[0] for batch in batches), seen[0][0], sample_images(detector, data)[0]]
    assert all(torch.equal(road, roads[0]) for road in roads[1:])
    assert (roads[0][:, -1] == 0).all() == (resize == "letterbox")  # the images are wider than high


def test_boxes_of_a_letterboxed_model_lie_in_the_image(trained: Path, shapes_root: Path) -> None:
    """What the model says as shares of its square is measured and predicted in pixels of the image, both alike."""
    detector = Detector.load(trained)
    detector.model = dataclasses.replace(detector.model, resize="letterbox")
    bias = detector.network.bbox_embed.layers[-1].bias  # boxes so large that they reach beyond the image
    with torch.no_grad():
        bias[2:] += 3
    data = read_split(find_layout(shapes_root).split("val"))
    (found,) = detector.predict([data.path(0)], threshold=0.0)
    width, height = PIL.Image.open(data.path(0)).size
    assert found.xyxy.min() == 0
    assert found.xyxy.max(axis=0)[2:].tolist() == [width, height]
    evaluation = Evaluation.build(detector.model, data, detector.config, detector.device)
    evaluation.measure(detector.network)
    measured = evaluation.metric.detections
    measured = measured[measured.image_ids == data.image_ids[0]]
    boxes_xywh = measured.boxes_xywh
    boxes_xyxy = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
    np.testing.assert_allclose(found.xyxy, boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(found.confidence, measured.scores, atol=1e-5)
