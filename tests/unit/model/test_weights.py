"""Every tensor is loaded, mapped, new or skipped, with a reason; anything else is an error."""

import argparse
import math
from pathlib import Path

import pytest
import torch

from rfdetr_hwd.config.schema import DownsampleSection, ModelSection
from rfdetr_hwd.model.build import BuiltModel, build_model
from rfdetr_hwd.model.pretrained import find_source
from rfdetr_hwd.model.queries import ADDED_HEAD, QUERY_KEYS
from rfdetr_hwd.model.rfdetr import (
    POSITION_EMBEDDINGS,
    DetectionLoss,
    build_stock_model,
    coco_class_names,
    published_weights,
)
from rfdetr_hwd.model.source_weights import SourceWeights, WeightsError, read_pth
from rfdetr_hwd.model.weights import load_weights

ATTENTION = "transformer.decoder.layers.0.cross_attn.attention_weights"


@pytest.fixture(scope="module")
def published() -> SourceWeights:
    """Weights shaped as the published Nano's: P4 alone, 13 groups of 300 queries, 91 class rows, 384 px."""
    network = build_stock_model("nano", 90).network
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return SourceWeights(network.state_dict(), coco_class_names(), "published")


def build(class_names: list[str], name: str = "hwd", **settings: object) -> BuiltModel:
    section = ModelSection(**{"resolution": 128, "num_queries": 30, "group_detr": 2, **settings})
    return build_model(section, DownsampleSection(name=name), class_names)


def test_adding_p5_maps_the_published_weights(published: SourceWeights) -> None:
    model = build(["car", "blob", "person"])
    fresh = {key: value.clone() for key, value in model.network.state_dict().items()}
    report = load_weights(model.stock, model.class_names, published, strict=True)
    state = model.network.state_dict()
    assert sorted([*report.loaded, *report.mapped, *report.new]) == sorted(state)
    assert set(report.new.values()) == {"level P5"}
    assert set(report.skipped.values()) == {"query group beyond group_detr"}
    for key in report.loaded:
        assert torch.equal(state[key], published.state[key]), key
    for key in report.new:
        assert torch.equal(state[key], fresh[key]), key
    person, car = coco_class_names().index("person"), coco_class_names().index("car")
    for head in ("class_embed", "transformer.enc_out_class_embed.1"):
        weight, old = state[f"{head}.weight"], published.state[f"{head}.weight"]
        assert torch.equal(weight[[0, 2]], old[[car, person]])
        assert torch.equal(weight[1], fresh[f"{head}.weight"][1])
    queries = published.state["query_feat.weight"].view(13, 300, -1)
    assert torch.equal(state["query_feat.weight"].view(2, 30, -1), queries[:2, :30])
    assert state[POSITION_EMBEDDINGS].shape == (1, 8 * 8 + 1, 384)
    assert torch.equal(state[POSITION_EMBEDDINGS][:, 0], published.state[POSITION_EMBEDDINGS][:, 0])


def test_the_new_level_starts_low_in_every_head_at_every_query(published: SourceWeights) -> None:
    model = build(["person"])
    state = {**published.state, f"{ATTENTION}.bias": torch.randn(32) * 4}  # heads that differ
    load_weights(model.stock, model.class_names, SourceWeights(state, published.class_names, "x"), strict=True)
    attention = model.network.get_submodule(ATTENTION)
    query = torch.randn(100, 256)
    new = attention(query).view(100, 16, 2, 2)  # query, head, level, point
    expected = query @ state[f"{ATTENTION}.weight"].T + state[f"{ATTENTION}.bias"]
    torch.testing.assert_close(new[:, :, 0], expected.view(100, 16, 2), atol=1e-5, rtol=1e-5)
    share = new.flatten(2).softmax(-1).view(100, 16, 2, 2)[:, :, 1].sum(-1)
    assert share.max() <= math.exp(-6)


def test_with_the_level_moved_proposals_keep_their_size(published: SourceWeights) -> None:
    model = build(["person"], levels=("P3", "P4", "P5"))
    report = load_weights(model.stock, model.class_names, published, strict=True)
    key = "transformer.enc_out_bbox_embed.0.layers.2.bias"
    expected = published.state[key] - torch.tensor([0, 0, math.log(2), math.log(2)])
    torch.testing.assert_close(model.network.state_dict()[key], expected)
    stage = "backbone.0.projector.stages.{}.0.cv1.conv.weight"
    assert torch.equal(model.network.state_dict()[stage.format(1)], published.state[stage.format(0)])
    assert report.mapped[stage.format(1)] == "level moved"


HEADS = ("enc_output", "enc_output_norm", "enc_out_bbox_embed", "enc_out_class_embed")


def test_added_queries_and_groups_leave_the_known_ones_as_they_are() -> None:
    """Known queries stay in their places, added ones are fresh; an added group has a known one's heads."""
    source, names = build(["a"], num_queries=20, group_detr=2), ["a"]
    for parameter in source.network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)  # groups that differ, as after training
    weights = SourceWeights(source.network.state_dict(), names, "fewer")
    model = build(names, num_queries=30, group_detr=5)
    fresh = {key: value.clone() for key, value in model.network.state_dict().items()}
    report = load_weights(model.stock, names, weights, strict=True)
    state, old = model.network.state_dict(), weights.state
    assert (report.new, report.skipped) == ({}, {})
    for key in QUERY_KEYS:
        expected = fresh[key].clone().view(5, 30, -1)
        expected[:2, :20] = old[key].view(2, 20, -1)
        assert torch.equal(state[key].view(5, 30, -1), expected)
    added_ones = "the added ones randomly initialized"
    rule = f"queries increased from 20 to 30, {added_ones}; query groups increased from 2 to 5, {added_ones}"
    assert {key for key, why in report.mapped.items() if why == rule} == set(QUERY_KEYS)
    added = [key for key in state if any(f".{head}.{group}." in key for head in HEADS for group in (2, 3, 4))]
    assert len(added) == 3 * 12
    assert {key for key, why in report.mapped.items() if why == ADDED_HEAD} == set(added)
    for key in added:
        group = int(key.split(".")[2])
        assert torch.equal(state[key], old[key.replace(f".{group}.", f".{group % 2}.", 1)]), key


def test_the_same_number_of_rows_in_other_groups_is_not_the_same_queries() -> None:
    source, model = build(["a"], num_queries=20, group_detr=3), build(["a"], num_queries=30, group_detr=2)
    fresh = model.network.query_feat.weight.detach().clone().view(2, 30, -1)
    old = source.network.query_feat.weight.detach().view(3, 20, -1)
    load_weights(model.stock, ["a"], SourceWeights(source.network.state_dict(), ["a"], "x"), strict=True)
    found = model.network.query_feat.weight.detach().view(2, 30, -1)
    assert torch.equal(found, torch.cat([old[:2], fresh[:, 20:]], dim=1))


def test_added_groups_do_not_take_the_same_steps() -> None:
    """Copies of a group would get its gradients, and stay copies."""
    source, model = build(["a"], group_detr=1), build(["a"], group_detr=2)
    load_weights(model.stock, ["a"], SourceWeights(source.network.state_dict(), ["a"], "x"), strict=True)
    targets = [{"labels": torch.tensor([0]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.3]])}]
    loss, _ = DetectionLoss(model.stock)(model.network.train()(torch.rand(1, 3, 128, 128)), targets, num_boxes=2)
    loss.backward()
    one, other = model.network.query_feat.weight.grad.view(2, 30, -1)
    assert not torch.allclose(one, other, rtol=0.1, atol=one.abs().max() * 0.01)


def test_the_same_model_takes_every_key(published: SourceWeights) -> None:
    model = build_model(ModelSection(levels=("P4",)), DownsampleSection(name="conv3x3"), coco_class_names()[:90])
    names = [*coco_class_names()[:90]]
    report = load_weights(model.stock, names, SourceWeights(published.state, names, "same"), strict=True)
    assert len(report.loaded) == len(model.network.state_dict())
    assert report.rows() == [("loaded", len(report.loaded), "unchanged")]


def test_a_linear_downsampler_starts_from_the_stock_kernel(published: SourceWeights) -> None:
    source = build(["a"], name="conv3x3")
    model = build(["a"], name="hwd")
    weights = SourceWeights(source.network.state_dict(), ["a"], "stock P5")
    report = load_weights(model.stock, model.class_names, weights, strict=True)
    assert report.new == {}
    warm = {key: why for key, why in report.mapped.items() if "warm start" in why}
    assert len(warm) == 4
    for key, why in warm.items():
        kernel = source.network.state_dict()[key].double()
        kept = kernel[..., 1:, 1:].square().sum() / kernel.square().sum()
        assert why == f"warm start from the stock 3x3, {float(kept):.0%} of its energy kept"
        folded = model.network.get_submodule(key.removesuffix(".weight")).fold()
        torch.testing.assert_close(folded[..., 1:, 1:], kernel[..., 1:, 1:], atol=1e-6, rtol=0)
        assert folded[..., 0, :].abs().max() == 0


def test_a_nonlinear_downsampler_starts_fresh(published: SourceWeights) -> None:
    source, model = build(["a"], name="conv3x3"), build(["a"], name="maxpool")
    weights = SourceWeights(source.network.state_dict(), ["a"], "stock P5")
    report = load_weights(model.stock, model.class_names, weights, strict=True)
    assert set(report.new.values()) == {"downsampler"}
    assert len(report.new) == 4


def test_what_no_rule_explains_is_an_error(published: SourceWeights) -> None:
    state = {key: value for key, value in published.state.items() if key != "bbox_embed.layers.0.weight"}
    model = build(["person"])
    broken = SourceWeights(state, coco_class_names(), "broken.pth")
    with pytest.raises(
        WeightsError, match=r"broken.pth does not fit.*bbox_embed.layers.0.weight.*strict_weights=false"
    ):
        load_weights(model.stock, model.class_names, broken, strict=True)
    assert "bbox_embed.layers.0.weight" in load_weights(model.stock, model.class_names, broken, strict=False).new


@pytest.mark.parametrize(
    "changes",
    [
        {"class_embed.weight": torch.zeros(91, 128)},
        {f"{ATTENTION}.weight": torch.zeros(48, 256)},
        {"query_feat.weight": torch.zeros(3901, 256)},
        {"refpoint_embed.weight": torch.zeros(3900, 3)},
        {POSITION_EMBEDDINGS: torch.zeros(1, 577, 768)},
    ],
)
def test_shapes_that_no_rule_maps_are_named(published: SourceWeights, changes: dict[str, torch.Tensor]) -> None:
    source = SourceWeights({**published.state, **changes}, published.class_names, "odd.pth")
    model = build(["person"])
    with pytest.raises(WeightsError, match=f"odd.pth does not fit.*{next(iter(changes))}"):
        load_weights(model.stock, model.class_names, source, strict=True)
    assert next(iter(changes)) in load_weights(model.stock, model.class_names, source, strict=False).new


@pytest.mark.parametrize(
    ("changes", "difference", "advice"),
    [
        (
            {"query_feat.weight": torch.zeros(3901, 256)},
            "query_feat.weight has 3901 queries, which are not 13 groups of one size",
            "Give weights that rfdetr or rfdetr-hwd has written",
        ),
        (
            {"bbox_embed.layers.1.weight": torch.zeros(8, 256)},
            r"bbox_embed.layers.1.weight has the shape \(8, 256\), not \(256, 256\)",
            "Choose the variant and downsampler",
        ),
        (
            {"bbox_embed.layers.9.weight": torch.zeros(8)},
            "bbox_embed.layers.9.weight is not in the model",
            "Choose the variant",
        ),
    ],
)
def test_the_advice_fits_the_difference(
    published: SourceWeights, changes: dict[str, torch.Tensor], difference: str, advice: str
) -> None:
    source = SourceWeights({**published.state, **changes}, published.class_names, "odd.pth")
    model = build(["person"])
    with pytest.raises(WeightsError, match=rf"1 tensors differ \({difference}\)\. {advice}.*strict_weights=false"):
        load_weights(model.stock, model.class_names, source, strict=True)


def test_weights_of_something_else_are_refused_even_when_not_strict() -> None:
    model = build(["person"])
    alien = SourceWeights({"conv.weight": torch.zeros(3)}, [], "alien.pth")
    with pytest.raises(WeightsError, match="alien.pth does not fit"):
        load_weights(model.stock, model.class_names, alien, strict=False)


def test_upstream_files_are_read_with_their_class_names(tmp_path: Path, published: SourceWeights) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": published.state, "args": argparse.Namespace(class_names=["x", "y"])}, path)
    assert read_pth(path).class_names == ["x", "y"]
    torch.save({"model": published.state}, path)
    assert read_pth(path).class_names == coco_class_names()


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_files_that_carry_code_run_nothing(tmp_path: Path) -> None:
    path, target = tmp_path / "bad.pth", tmp_path / "ran"
    torch.save({"model": {}, "x": Malicious(target)}, path)
    with pytest.raises(WeightsError, match="cannot be loaded safely|can be loaded safely"):
        read_pth(path)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_broken_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="bad.pth"):
        read_pth(path)


def test_missing_weights_name_file_address_and_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RF_HOME", str(tmp_path))
    monkeypatch.setattr("rfdetr_hwd.model.rfdetr.download_pretrain_weights", _no_network)
    with pytest.raises(WeightsError) as caught:
        find_source(ModelSection())
    for part in ("rf-detr-nano.pth", published_weights("nano").url, "model.pretrain_weights=null", "no route"):
        assert part in str(caught.value)
    with pytest.raises(WeightsError, match="there is no file or run directory nowhere.pth"):
        find_source(ModelSection(pretrain_weights="nowhere.pth"))
    (tmp_path / "rf-detr-nano.pth").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="MD5"):
        find_source(ModelSection())


def _no_network(path: str) -> None:
    raise OSError("no route to host")
