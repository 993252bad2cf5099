"""The harness adds nothing of its own: with the stock downsampler it is upstream's model, loss and recipe."""

import io
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rfdetr.config import RFDETRNanoConfig, TrainConfig
from rfdetr.models.lwdetr import build_criterion_from_config, build_model_from_config

from rfdetr_hwd.amp import forward_in_amp
from rfdetr_hwd.config.schema import DownsampleSection, ModelSection, TrainSection
from rfdetr_hwd.data.batch import Batch, PackedTargets
from rfdetr_hwd.model import rfdetr as upstream
from rfdetr_hwd.model.build import build_model
from rfdetr_hwd.model.learning_rates import learning_rates
from rfdetr_hwd.model.rfdetr import DetectionLoss, PublishedWeights, build_stock_model
from rfdetr_hwd.training.optimizer import build_adamw
from rfdetr_hwd.training.train_step import TrainStep

SETTINGS = {"resolution": 64, "num_queries": 10, "group_detr": 2}


def upstream_model() -> tuple[torch.nn.Module, torch.nn.Module]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = RFDETRNanoConfig(
            num_classes=3, pretrain_weights=None, device="cpu", projector_scale=["P4", "P5"], num_select=10, **SETTINGS
        )
    train_config = TrainConfig(dataset_dir=".", output_dir=".")
    return build_model_from_config(config, train_config), build_criterion_from_config(config, train_config)[0]


def batch() -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    targets = [
        {"labels": torch.tensor([0, 2]), "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.5, 0.4]])},
        {"labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.1, 0.1]])},
    ]
    return torch.rand(2, 3, 64, 64), targets


def test_same_weights_same_outputs_same_loss_terms() -> None:
    theirs, criterion = upstream_model()
    ours = build_model(
        ModelSection(pretrain_weights=None, **SETTINGS), DownsampleSection(name="conv3x3"), ["a", "b", "c"]
    )
    ours.network.load_state_dict(theirs.state_dict())
    loss = DetectionLoss(ours.stock)
    images, targets = batch()
    expected = theirs.train()(images)
    outputs = forward_in_amp(ours.network.train(), images, SimpleNamespace(amp=True))
    for key in ("pred_logits", "pred_boxes"):
        torch.testing.assert_close(outputs[key], expected[key], atol=1e-6, rtol=0)
    raw = criterion.train()(expected, targets)  # normalised by upstream itself
    total, terms = loss(outputs, targets, num_boxes=loss.count_boxes(targets))
    assert set(terms) == set(criterion.weight_dict)
    for name, weight in criterion.weight_dict.items():
        torch.testing.assert_close(terms[name], (raw[name] * weight).detach(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(total.detach(), sum(terms.values()), atol=1e-5, rtol=1e-6)


def test_one_update_is_upstreams_gradient() -> None:
    theirs, criterion = upstream_model()
    ours = build_model(
        ModelSection(pretrain_weights=None, **SETTINGS), DownsampleSection(name="conv3x3"), ["a", "b", "c"]
    )
    ours.network.load_state_dict(theirs.state_dict())
    images, targets = batch()
    raw = criterion(theirs.train()(images), targets)
    sum(raw[name] * weight for name, weight in criterion.weight_dict.items()).backward()
    gradient = torch.nn.utils.clip_grad_norm_(theirs.parameters(), float("inf"))
    optimizer = torch.optim.SGD([p for p in ours.network.parameters() if p.requires_grad], lr=0.0, fused=True)
    micro_batches = [Batch(images, PackedTargets.pack(targets), (1, 2), torch.zeros(2, 2))]
    network, args = ours.network.train(), SimpleNamespace(amp=False)
    result = TrainStep(network, DetectionLoss(ours.stock), optimizer, args, clip=0.0)(micro_batches)
    torch.testing.assert_close(result.grad_norm, gradient, rtol=1e-5, atol=0)


def test_learning_rates_are_upstreams_recipe() -> None:
    stock = build_stock_model("nano", 3, projector_scale=["P4", "P5"], **SETTINGS)
    rates = TrainSection(lr=1e-4, lr_encoder=1.5e-4, encoder_layer_decay=0.8, component_decay=0.7, weight_decay=1e-4)
    ours = {name: (lr, decay) for name, _, lr, decay in learning_rates(stock.network, stock.config, rates)}
    args = SimpleNamespace(
        out_feature_indexes=stock.config.out_feature_indexes,
        lr_encoder=1.5e-4,
        lr_vit_layer_decay=0.8,
        lr_component_decay=0.7,
        weight_decay=1e-4,
    )
    encoder = stock.network.backbone[0].get_named_param_lr_pairs(args)
    assert len(encoder) > 150
    for name, group in encoder.items():
        assert abs(ours[name][0] - group["lr"]) < 1e-12, name
        assert ours[name][1] == group["weight_decay"], name
    others = {name: rate for name, rate in ours.items() if name not in encoder}
    assert {rate for name, rate in others.items() if "transformer.decoder" in name} == {(1e-4 * 0.7, 1e-4)}
    assert {rate for name, rate in others.items() if "transformer.decoder" not in name} == {(1e-4, 1e-4)}
    groups = build_adamw(learning_rates(stock.network, stock.config, rates)).param_groups
    trained = sum(len(group["params"]) for group in groups)
    assert trained == sum(p.requires_grad for p in stock.network.parameters())


def test_every_trained_parameter_gets_a_gradient() -> None:
    stock = build_stock_model("nano", 3, projector_scale=["P4", "P5"], **SETTINGS)
    images, targets = batch()
    total, _ = DetectionLoss(stock)(stock.network.train()(images), targets, num_boxes=6)
    total.backward()
    assert [n for n, p in stock.network.named_parameters() if p.requires_grad and p.grad is None] == []


def test_base_is_built_without_a_download() -> None:
    stock = build_stock_model("base", 3, resolution=112, num_queries=4, group_detr=1)
    assert stock.network.eval()(torch.rand(1, 3, 112, 112))["pred_logits"].shape == (1, 4, 4)


def test_the_import_leaves_pillows_limit_on_decompression_bombs() -> None:
    code = "import PIL.Image, rfdetr_hwd.model.rfdetr; print(PIL.Image.MAX_IMAGE_PIXELS)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, stderr=subprocess.DEVNULL) == "89478485\n"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "is_shown"), [(Screen(), True), (io.StringIO(), False)])
def test_the_progress_of_a_download_is_for_terminals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, is_shown: bool
) -> None:
    def download(path: str) -> None:
        sys.stderr.write("10%\r20%\r")
        Path(path).write_bytes(b"")

    monkeypatch.setattr(upstream, "download_pretrain_weights", download)
    monkeypatch.setattr(sys, "stderr", stream)
    weights = PublishedWeights(
        tmp_path / "cache" / "x.pth", "https://example.org/x.pth", "d41d8cd98f00b204e9800998ecf8427e"
    )
    assert weights.fetch().exists()
    assert stream.getvalue() == ("10%\r20%\r" if is_shown else "")
