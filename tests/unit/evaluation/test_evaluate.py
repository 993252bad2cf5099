"""An evaluation measures a network, and leaves it as it was."""

import copy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from rfdetr_hwd.evaluation.evaluate import PassSize, detect_in_amp, evaluate


class Attention(nn.Module):
    """Attention as in the decoder: torch projects transposed views in one of two ways, as weights want gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(256, 8, batch_first=True)
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        attended: Tensor = self.attention(images, images, images + 1, need_weights=False)[0]
        return attended + self.frozen


class Bits:
    """Every digit of the outputs."""

    detections: list[Tensor]

    def reset(self) -> None:
        self.detections = []

    def update(self, image_ids: tuple[int, ...], results: list[Tensor]) -> None:
        self.detections.append(torch.stack(results))

    def add(self, detections: list[Tensor]) -> None:
        self.detections += detections

    def measure(self) -> dict[str, float | None]:
        return {}


def bits(network: nn.Module) -> Tensor:
    images = torch.randn(4, 10, 256, generator=torch.Generator().manual_seed(1))
    batch = SimpleNamespace(images=images, image_ids=(0, 1, 2, 3), sizes=None, to=lambda _: batch)
    metric = Bits()
    args, device = SimpleNamespace(amp=False), torch.device("cpu")
    detect = partial(detect_in_amp, postprocess=lambda outputs, _: list(outputs), args=args, device=device)
    evaluate(network, [batch], detect, metric, PassSize(8))
    return metric.detections[0]


def test_weights_in_training_measure_as_their_average_and_as_loaded_ones() -> None:
    """To the last bit: of the three only the first want a gradient."""
    learned = Attention().train()
    frozen = copy.deepcopy(learned).requires_grad_(False)
    assert torch.equal(bits(learned), bits(frozen))
    assert learned.training
    assert {name: parameter.requires_grad for name, parameter in learned.named_parameters()} == {
        **dict.fromkeys((f"attention.{name}" for name, _ in learned.attention.named_parameters()), True),
        "frozen": False,
    }


def test_a_pass_that_fails_leaves_the_network_as_it_was() -> None:
    class Broken(Attention):
        def forward(self, images: Tensor) -> Tensor:
            assert not any(parameter.requires_grad for parameter in self.parameters())
            raise RuntimeError("a defect")

    network = Broken().train()
    with pytest.raises(RuntimeError, match="a defect"):
        bits(network)
    assert network.training
    assert [name for name, parameter in network.named_parameters() if not parameter.requires_grad] == ["frozen"]
