"""What a dataset asks for and the model or AP does not give is said before a training."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rfdetr_hwd.model.rfdetr import build_postprocess, build_stock_model
from rfdetr_hwd.training.limits import say_ap_limit, say_limits


def split(name: str, objects: list[list[int]]) -> SimpleNamespace:
    """Return a split with these labels in each image."""
    labels = np.array([label for image in objects for label in image], dtype=np.int64)
    counts = np.array([len(image) for image in objects])

    class Data(SimpleNamespace):
        def __len__(self) -> int:
            return len(objects)

    return Data(name=name, labels=labels, class_names=("a", "b"), objects_per_image=lambda: counts)


def model(num_queries: int, num_select: int, num_proposals: int = 500) -> SimpleNamespace:
    config = SimpleNamespace(num_queries=num_queries, num_select=num_select, group_detr=13)
    stock = SimpleNamespace(config=config, num_proposals=num_proposals, resolution=64, usual_queries=300)
    return SimpleNamespace(stock=stock)


def test_too_many_objects_are_told_with_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    train, val = split("train", [[0] * 12, [0, 1], [1] * 11]), split("valid", [[0] * 10])
    say_limits(model(10, 10), train, val, None)
    assert capsys.readouterr().out == (
        "train: images with more than 10 objects (up to 12): 2. The model finds at most 10 objects in an image: "
        "set model.num_queries=12 or more\n"
    )
    say_limits(model(20, 11), train, val, None)
    advice = "The model finds at most 11 objects in an image: set model.num_select=12 or more"
    assert f"(up to 12): 1. {advice}" in capsys.readouterr().out
    say_limits(model(12, 12), train, val, None)
    assert capsys.readouterr().out == ""


def test_the_cost_of_more_queries_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    say_limits(model(1000, 1000, num_proposals=2000), split("train", [[0]]), split("valid", [[0]]), None)
    assert capsys.readouterr().out == (
        "model.num_queries=1000 instead of 300: in each image a decoder layer compares 1,000,000 pairs of queries "
        "instead of 90,000, in training 13 times as many (model.group_detr). The loss matches 13,000 queries to the "
        "objects instead of 3,900. If memory is short, lower model.group_detr or train.micro_batch\n"
    )


def test_a_thousand_queries_find_a_thousand_objects() -> None:
    stock = build_stock_model("nano", 2, resolution=512, projector_scale=["P4", "P5"], num_queries=1000, group_detr=1)
    assert stock.usual_queries == 300
    outputs = stock.network.eval()(torch.zeros(1, 3, 512, 512))
    (found,) = build_postprocess(stock)(outputs, torch.tensor([[[512.0, 512.0], [512.0, 512.0]]]))
    assert len(found["scores"]) == 1000


def test_queries_without_a_proposal_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    say_limits(model(30, 30, num_proposals=20), split("train", [[0]]), split("valid", [[0]]), None)
    assert "model.num_queries=30: at 64 px the encoder proposes 20 boxes" in capsys.readouterr().out


def test_proposals_are_counted_as_the_network_makes_them() -> None:
    stock = build_stock_model("nano", 2, resolution=64, projector_scale=["P3", "P4", "P5"], num_queries=4, group_detr=1)
    seen: list[torch.Size] = []
    stock.network.transformer.enc_output[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    stock.network.eval()(torch.zeros(1, 3, 64, 64))
    assert stock.num_proposals == seen[0][1] == 64 + 16 + 4


@pytest.mark.parametrize(
    ("max_dets", "advice"), [(500, "see AP@500"), (150, "set evaluation.max_dets=210 for AP@210"), (None, "set eval")]
)
def test_more_objects_of_a_class_than_ap_counts_are_told(
    capsys: pytest.CaptureFixture[str], max_dets: int | None, advice: str
) -> None:
    say_ap_limit(split("valid", [[0] * 210, [0] * 100 + [1] * 100, [1] * 101]), max_dets)
    said = capsys.readouterr().out
    assert f"of one class (up to 210): 2. AP counts 100 detections per class and image: {advice}" in said
    say_ap_limit(split("valid", [[0] * 100 + [1] * 100, []]), max_dets)
    say_ap_limit(split("valid", [[]]), max_dets)
    assert capsys.readouterr().out == ""
