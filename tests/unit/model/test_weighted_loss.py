"""Class weights multiply the classification loss of matched queries, and leave the rest as it is, to the bit."""

import pytest
import torch

from rfdetr_hwd.model.rfdetr import DetectionLoss, StockModel, build_stock_model
from rfdetr_hwd.model.weighted_loss import matched_losses, paired_iou

Target = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def stock() -> StockModel:
    settings = {"resolution": 64, "num_queries": 6, "group_detr": 2, "projector_scale": ["P4", "P5"]}
    return build_stock_model("nano", 3, **settings)


def targets() -> list[Target]:
    return [
        {"labels": torch.tensor([0, 2]), "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.5, 0.4]])},
        {"labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.1, 0.1]])},
    ]


def test_the_loss_of_a_matched_query_by_hand() -> None:
    """p = 0.8 and IoU 0.25: s = 0.8^0.25 0.25^0.75 = 0.33437; the other class has q = 0.5."""
    logits = torch.tensor([[1.3862944, 0.0]], dtype=torch.float64)
    found = matched_losses(logits, torch.tensor([0]), torch.tensor([0.25], dtype=torch.float64), 0.25)
    of_label = 0.334370 * 0.223144 + 0.665630 * 1.609438  # -s ln 0.8 - (1 - s) ln 0.2
    assert float(found) == pytest.approx(of_label + 0.25 * 0.693147, abs=1e-5)


def test_overlaps_by_hand() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1], [0.2, 0.2, 0.1, 0.1]])
    others = torch.tensor([[0.6, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]])
    assert paired_iou(boxes, others).tolist() == pytest.approx([1 / 3, 1, 0], abs=1e-6)


def test_weights_of_one_change_no_bit(stock: StockModel) -> None:
    """Neither of the loss, nor of any gradient, in all layers and groups."""
    images, network = torch.rand(2, 3, 64, 64), stock.network.train()
    found = []
    for weights in (None, (1.0, 1.0, 1.0), (1.0, 3.0, 1.0)):
        network.zero_grad(set_to_none=True)
        torch.manual_seed(1)
        loss, terms = DetectionLoss(stock, weights)(network(images), targets(), num_boxes=6)
        loss.backward()
        gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        found.append((loss.detach(), terms, gradients))
    (loss, terms, gradients), same, other = found
    assert torch.equal(same[0], loss)
    assert all(torch.equal(same[1][name], value) for name, value in terms.items())
    assert all(torch.equal(one, two) for one, two in zip(same[2], gradients, strict=True))
    changed = {name for name, value in terms.items() if not torch.equal(other[1][name], value)}
    assert changed == {name for name in terms if name.startswith("loss_ce")}
    assert len(changed) > 2


def test_weights_multiply_upstreams_loss_of_the_objects() -> None:
    """Where every query has an object, a weight of 2 doubles upstream's loss; one class adds what its object costs."""
    boxes = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.5, 0.5, 0.2, 0.1], [0.8, 0.8, 0.1, 0.3]])
    objects = {"labels": torch.tensor([0, 1, 2]), "boxes": boxes}
    logits = torch.linspace(-1.5, 1.0, 12).reshape(1, 3, 4)
    outputs = {"pred_logits": logits, "pred_boxes": (boxes + torch.tensor([0.01, 0, 0.02, 0]))[None]}
    model = build_stock_model("nano", 3, resolution=64, num_queries=3, group_detr=1)

    def classification(weights: tuple[float, ...] | None, queries: slice = slice(None)) -> float:
        some = {name: value[:, queries] for name, value in outputs.items()}
        chosen = [{name: value[queries] for name, value in objects.items()}]
        return float(DetectionLoss(model, weights)(some, chosen, num_boxes=1.0)[1]["loss_ce"])

    whole, second = classification(None), classification(None, slice(1, 2))
    assert classification((2.0, 2.0, 2.0)) == pytest.approx(2 * whole, rel=1e-5)
    assert classification((1.0, 4.0, 1.0)) == pytest.approx(whole + 3 * second, rel=1e-5)
    assert classification((0.5, 0.5, 0.5)) == pytest.approx(whole / 2, rel=1e-5)


def test_images_without_objects_have_the_same_loss(stock: StockModel) -> None:
    nothing = [{"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}]
    outputs = stock.network.train()(torch.rand(1, 3, 64, 64))
    losses = [DetectionLoss(stock, weights)(outputs, nothing, num_boxes=1.0)[0] for weights in (None, (2.0, 3.0, 4.0))]
    assert torch.equal(*losses)
