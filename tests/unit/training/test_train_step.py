"""The step is the same however it is cut, and a gradient that is not finite changes nothing."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from rfdetr_hwd.config.schema import DownsampleSection, ModelSection
from rfdetr_hwd.data.batch import Batch, PackedTargets
from rfdetr_hwd.model.build import BuiltModel, build_model
from rfdetr_hwd.model.rfdetr import DetectionLoss
from rfdetr_hwd.training.non_finite import NonFiniteError
from rfdetr_hwd.training.train_step import StepResult, Totals, TrainStep

ARGS = SimpleNamespace(amp=True)


@pytest.fixture(scope="module")
def model() -> BuiltModel:
    torch.manual_seed(0)  # with other weights a selection of queries may be close, and rounding decides it
    section = ModelSection(resolution=64, pretrain_weights=None, num_queries=10, group_detr=2)
    return build_model(section, DownsampleSection(), ["a", "b", "c"])


def batches(sizes: list[int]) -> list[Batch]:
    """Sixteen images with 0 to 3 boxes each, cut into micro-batches."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(16, 3, 64, 64, generator=generator)
    targets = []
    for index in range(16):
        count = index % 4
        boxes = torch.rand(count, 4, generator=generator) * 0.3 + 0.2
        targets.append({"labels": torch.randint(0, 3, (count,), generator=generator), "boxes": boxes})
    cuts = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return [
        Batch(images[a:b], PackedTargets.pack(targets[a:b]), tuple(range(a, b)), torch.zeros(b - a, 2, 2))
        for a, b in zip(cuts, cuts[1:], strict=False)
    ]


def update(
    model: BuiltModel, micro_batches: list[Batch], clip: float = 0.0, num_boxes: float | None = None
) -> tuple[StepResult, Tensor]:
    """Make a step of a copy of the model; return also its gradient, as the optimizer is given it.

    Gradients are compared, not weights: a weight is rounded to 6e-8 of itself, which of a step of 1 % of a small
    gradient is as much as the bound of the comparison, and differs between CPUs.
    """
    network = copy.deepcopy(model.network).train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.01, fused=True)
    given: list[Tensor] = []

    def take(*_: object) -> None:
        given.extend(p.grad.flatten().double() for p in network.parameters() if p.grad is not None)

    optimizer.register_step_pre_hook(take)
    totals = None if num_boxes is None else Totals(num_boxes, 16)
    result = TrainStep(network, DetectionLoss(model.stock), optimizer, ARGS, clip)(micro_batches, totals)
    return result, torch.cat(given)


@pytest.mark.parametrize(
    "sizes",
    [
        [4, 4, 4, 4],
        [1, 15],
        pytest.param([8, 8], marks=pytest.mark.slow),
        pytest.param([3, 5, 8], marks=pytest.mark.slow),
    ],
)
def test_accumulation_does_not_change_the_update(model: BuiltModel, sizes: list[int]) -> None:
    whole, expected = update(model, batches([16]))
    parts, gradient = update(model, batches(sizes))
    torch.testing.assert_close(parts.loss, whole.loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(parts.grad_norm, whole.grad_norm, rtol=1e-5, atol=0)
    assert (gradient - expected).norm() / expected.norm() < 1e-5


def test_a_normaliser_of_each_micro_batch_would_change_it(model: BuiltModel) -> None:
    """The control: upstream's accumulation normalises by the micro-batch, and the test above would see it."""
    whole, _ = update(model, batches([16]))
    parts = [update(model, [batch])[0].grad_norm for batch in batches([4, 4, 4, 4])]
    assert abs(float(torch.stack(parts).mean() / whole.grad_norm) - 1) > 1e-3


def test_a_batch_that_does_not_count_changes_nothing(model: BuiltModel) -> None:
    from dataclasses import replace

    expected, gradient = update(model, batches([16]))
    filler = replace(batches([4, 12])[0], is_padding=True)
    result, other = update(model, [*batches([16]), filler])
    torch.testing.assert_close(result.loss, expected.loss)
    assert torch.equal(other, gradient)  # what is added to it is zero


def test_a_given_normaliser_is_taken_as_it_is(model: BuiltModel) -> None:
    counted = DetectionLoss(model.stock).count_boxes([target for batch in batches([16]) for target in batch.targets])
    whole, gradient = update(model, batches([16]))
    for factor in (1, 2):
        result, other = update(model, batches([16]), num_boxes=factor * float(counted))
        torch.testing.assert_close(result.loss * factor, whole.loss)
        torch.testing.assert_close(other * factor, gradient)


def test_the_gradient_is_clipped(model: BuiltModel) -> None:
    free, whole = update(model, batches([16]))
    clipped, gradient = update(model, batches([16]), clip=0.1)
    torch.testing.assert_close(clipped.grad_norm, free.grad_norm)
    assert whole.norm() > 1
    torch.testing.assert_close(gradient, whole * (0.1 / whole.norm()), rtol=1e-5, atol=0)


class Poisoned:
    """The loss of a model, which is not finite in some of its calls."""

    def __init__(self, criterion: DetectionLoss, calls: set[int]) -> None:
        self.criterion, self.calls, self.count_boxes, self.number = criterion, calls, criterion.count_boxes, -1

    def __call__(self, outputs: object, targets: object, num_boxes: float) -> object:
        self.number += 1
        loss, terms = self.criterion(outputs, targets, num_boxes)
        factor = float("nan") if self.number in self.calls else 1.0
        return loss * factor, {**terms, "loss_ce": terms["loss_ce"] * factor}


def test_a_loss_that_is_not_finite_breaks_the_gradient(model: BuiltModel) -> None:
    """Also where its own gradient is finite: the other ranks see the average of the gradients alone."""
    network, criterion = copy.deepcopy(model.network).train(), DetectionLoss(model.stock)

    class Shifted:
        count_boxes = staticmethod(criterion.count_boxes)

        def __call__(self, outputs: dict[str, Tensor], targets: list[dict[str, Tensor]], num_boxes: float) -> object:
            loss, terms = criterion(outputs, targets, num_boxes)
            return loss + math.inf, terms

    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.01, fused=True)
    step = TrainStep(network, Shifted(), optimizer, ARGS, 0.0)  # type: ignore[arg-type]
    assert math.isnan(step(batches([16])).grad_norm)
    with pytest.raises(NonFiniteError):
        step.settle()


@pytest.mark.parametrize("is_found_by_next", [True, False])
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_a_step_that_is_not_finite_changes_no_weight(model: BuiltModel, kind: str, is_found_by_next: bool) -> None:
    """The device skips its update. The next step finds it before it changes anything, or `settle` does."""
    network = copy.deepcopy(model.network).train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = getattr(torch.optim, kind)(parameters, lr=0.01, fused=True)
    step = TrainStep(network, Poisoned(DetectionLoss(model.stock), {3}), optimizer, ARGS, 0.1)
    step(batches([8, 8]))
    step.settle()
    before = copy.deepcopy(network.state_dict())
    step(batches([8, 8]))
    with pytest.raises(NonFiniteError) as caught:
        step(batches([16])) if is_found_by_next else step.settle()
    assert [image_ids for image_ids, _ in caught.value.ranks] == [tuple(range(8, 16))]
    ((_, terms),) = caught.value.ranks
    assert math.isnan(terms["loss_ce"])
    assert "loss_ce" in str(caught.value)
    assert [len(batch.image_ids) for batch in caught.value.suspects.micro_batches] == [8, 8]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())
    if kind == "AdamW":
        assert {float(entry["step"]) for entry in optimizer.state.values()} == {1.0}
    step.settle()  # it is raised once
