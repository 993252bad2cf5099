"""Training steps, evaluations and predictions of the tiny model, on a device without data and on one that pretends."""

import copy
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import PIL.Image
import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import forward_in_amp
from rfdetr_hwd.config.schema import DataSection, DownsampleSection, ModelSection, TrainSection
from rfdetr_hwd.data.batch import Batch, PackedTargets
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.evaluation.evaluate import PassSize, detect_in_amp, evaluate
from rfdetr_hwd.model.build import BuiltModel, build_model
from rfdetr_hwd.model.learning_rates import learning_rates
from rfdetr_hwd.model.rfdetr import DetectionLoss, build_postprocess
from rfdetr_hwd.training.optimizer import ExponentialMovingAverage, build_adamw
from rfdetr_hwd.training.train_step import StepResult, TrainStep
from tests.conftest import TINY_MODEL
from tests.rehearsal.fake_device import Traffic, fake_cuda

ARGS = SimpleNamespace(amp=True)
CUDA = torch.device("cuda")
SIDE = TINY_MODEL["resolution"]
_RATES = TrainSection(lr=1e-4, lr_encoder=1e-4, encoder_layer_decay=0.8, component_decay=0.7, weight_decay=1e-4)


def build(name: str = "hwd", site: str = "projector") -> BuiltModel:
    """Return the tiny model with a downsampler, two query groups, dropout and stochastic depth."""
    return copy.deepcopy(_build(name, site))  # a part changes what it is given


@functools.cache
def _build(name: str, site: str) -> BuiltModel:
    side = SIDE * (2 if site == "stem" else 1)
    settings = {**TINY_MODEL, "resolution": side, "group_detr": 2, "dropout": 0.1, "drop_path": 0.1}
    return build_model(ModelSection(**settings), DownsampleSection(name=name, site=site), ["a", "b", "c"])


def make_batch(side: int = SIDE) -> Batch:
    """Return three images with two, no and three boxes, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    targets = [
        {
            "labels": torch.randint(0, 3, (number,), generator=generator),
            "boxes": torch.rand(number, 4, generator=generator) * 0.3 + 0.2,
        }
        for number in (2, 0, 3)
    ]
    images = torch.randint(256, (3, 3, side, side), dtype=torch.uint8, generator=generator)
    return Batch(images, PackedTargets.pack(targets), (7, 8, 9), torch.full((3, 2, 2), 100.0))


@dataclass
class Trained:
    """What a step left: its result, the network, its EMA and the optimizer; and its traffic."""

    result: StepResult
    network: nn.Module
    average: ExponentialMovingAverage
    optimizer: torch.optim.Optimizer
    traffic: Traffic

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that a step makes or changes, by name."""
        moments = {
            f"optimizer/{number}/{key}": value
            for number, entry in enumerate(self.optimizer.state.values())
            for key, value in entry.items()
        }
        weights = {f"weights/{name}": value for name, value in self.network.state_dict().items()}
        ema = {f"ema/{name}": value for name, value in self.average.module.state_dict().items()}
        terms = {f"loss/{name}": value for name, value in self.result.terms.items()}
        return {**moments, **weights, **ema, **terms, "loss": self.result.loss, "norm": self.result.grad_norm}


def train(model: BuiltModel, device: torch.device, traffic: Traffic, side: int | None = None) -> Trained:
    """Make a training step with the EMA, as the loop does, and note its traffic."""
    torch.manual_seed(1)
    network = model.network.to(device).train()
    criterion = DetectionLoss(model.stock).to(device)
    optimizer = build_adamw(learning_rates(network, model.stock.config, _RATES))
    average = ExponentialMovingAverage(network, 0.9, 10.0)
    traffic.clear()
    step = TrainStep(network, criterion, optimizer, ARGS, 0.1)
    result = step([make_batch(side or model.stock.resolution)])
    average.update(network, 1)
    return Trained(result, network, average, optimizer, traffic)


def train_on_fake_device(model: BuiltModel, side: int | None = None) -> Trained:
    """Make a training step on a device without data."""
    with fake_cuda() as traffic:
        return train(model, CUDA, traffic, side)


def forward_on_fake_device(model: BuiltModel) -> dict[str, Any]:
    """Return the outputs of a forward pass in training mode, and of its decoding, on a device without data."""
    with fake_cuda():
        network = model.network.to(CUDA).train()
        batch = make_batch(model.stock.resolution).to(CUDA)
        outputs = forward_in_amp(network, batch.images, ARGS)
        with torch.inference_mode():
            (decoded, *_) = build_postprocess(model.stock)(outputs, batch.sizes)
    return {**outputs, **decoded}


class Collected:
    """A metric that keeps what it is given."""

    def reset(self) -> None:
        """Forget."""
        self.detections: list[Any] = []

    def update(self, image_ids: tuple[int, ...], results: list[dict[str, Tensor]]) -> None:
        """Keep detections of images."""
        for image_id, result in zip(image_ids, results, strict=True):
            self.detections.append((image_id, {key: value.tolist() for key, value in result.items()}))

    def add(self, detections: list[Any]) -> None:
        """Keep detections of another process."""
        self.detections += detections

    def measure(self) -> dict[str, float | None]:
        """Return no metrics."""
        return {}


class _OneBatch:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Batch]:
        yield self.batch


def measure(model: BuiltModel, device: torch.device) -> list[Any]:
    """Return the detections of an evaluation pass, in two parts."""
    metric = Collected()
    batches = _OneBatch(make_batch(model.stock.resolution))
    network = model.network.to(device)
    detect = functools.partial(detect_in_amp, postprocess=build_postprocess(model.stock), args=ARGS, device=device)
    evaluate(network, batches, detect, metric, PassSize(2))
    return metric.detections


def predict(model: BuiltModel) -> list[Any]:
    """Return what `Detector.predict` finds in an image, on the device that it chooses."""
    config: Any = SimpleNamespace(amp=True, data=DataSection(root=""))
    detector = Detector(model, config, None, "raw")
    image = PIL.Image.radial_gradient("L").convert("RGB")
    return [detector.predict([image], threshold=0.0)[0].xyxy.tolist()]
