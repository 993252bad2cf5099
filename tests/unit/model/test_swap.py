"""The swap replaces the convolution and nothing else, an inert swap is an error, and the model folds back to stock."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from rfdetr_hwd.config.schema import DownsampleSection, ModelSection
from rfdetr_hwd.layers.hwd import HWD
from rfdetr_hwd.layers.linear import LinearDownsample
from rfdetr_hwd.layers.registry import list_downsamples
from rfdetr_hwd.model.build import BuiltModel, build_model
from rfdetr_hwd.model.fold import FoldError, fold_model
from rfdetr_hwd.model.rfdetr import PATCH_EMBEDDING, POSITION_EMBEDDINGS, build_stock_model
from rfdetr_hwd.model.source_weights import SourceWeights
from rfdetr_hwd.model.swap import FOLDED, SwapError, find_sites
from rfdetr_hwd.model.weights import load_weights

SETTINGS = {"resolution": 64, "pretrain_weights": None, "num_queries": 10, "group_detr": 1}


def build(name: str, site: str = "projector", classes: tuple[str, ...] = ("a", "b"), **changes: object) -> BuiltModel:
    downsample = {key: changes.pop(key) for key in ("init", "backend", "options") if key in changes}
    section = ModelSection(**{**SETTINGS, **changes})
    return build_model(section, DownsampleSection(name=name, site=site, **downsample), classes)


def assert_same_outputs(ours: torch.nn.Module, theirs: torch.nn.Module, x: torch.Tensor, tolerance: float) -> None:
    with torch.no_grad():
        expected, outputs = ours.eval()(x), theirs.eval()(x)
    for key in ("pred_logits", "pred_boxes"):
        torch.testing.assert_close(outputs[key], expected[key], atol=tolerance, rtol=tolerance)


def test_only_the_convolution_changes() -> None:
    stock, swapped = build("conv3x3"), build("hwd")
    sites = find_sites(stock.network, "projector")
    assert len(sites) == 4
    assert [r.path for r in swapped.replacements] == list(sites)
    assert all(isinstance(swapped.network.get_submodule(path), HWD) for path in sites)
    assert {r.parameters for r in swapped.replacements} == {(9 * 384 * 384, 4 * 384 * 384)}
    kinds = [
        {n: type(m) for n, m in b.network.named_modules() if not n.startswith(tuple(sites))} for b in (stock, swapped)
    ]
    assert kinds[0] == kinds[1]
    assert stock.replacements == []


def test_an_inert_swap_says_what_to_set() -> None:
    with pytest.raises(SwapError, match=r"would replace nothing.*model.levels=\[P4,P5\]"):
        build("hwd", levels=("P4",))


def test_stock_rfdetr_needs_no_site() -> None:
    assert build("conv3x3", levels=("P4",))


@pytest.mark.parametrize("name", list(list_downsamples()))
def test_every_downsampler_trains_in_the_model_and_folds_or_says_why_not(name: str) -> None:
    model = build(name)
    x = torch.rand(2, 3, 64, 64)
    outputs = model.network.train()(x)
    (outputs["pred_logits"].sum() + outputs["pred_boxes"].sum()).backward()
    modules = [model.network.get_submodule(r.path) for r in model.replacements]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for module in modules for p in module.parameters())
    if modules and not isinstance(modules[0], LinearDownsample):
        with pytest.raises(FoldError, match="does not fold into the stock 3x3"):
            fold_model(model)
        return
    stock = fold_model(model)
    assert {type(conv) for conv in find_sites(stock.network, "projector").values()} == {torch.nn.Conv2d}
    assert_same_outputs(model.network, stock.network, x, 1e-5)


def test_equal_starts_are_one_model() -> None:
    models = []
    for name in ("conv2x2", "spd", "hwd"):
        torch.manual_seed(3)
        models.append(build(name, init="equal"))
    x = torch.rand(1, 3, 64, 64)
    for other in models[1:]:
        assert_same_outputs(models[0].network, other.network, x, 1e-5)
    with pytest.raises(SwapError, match="haar_ll cannot represent every 2x2 kernel"):
        build("haar_ll", init="equal")


# The stem


STEM_FOLDS = ["conv2x2", "spd", "hwd", "haar_ll", "avgpool"]


def random_weights(variant: str, resolution: int) -> SourceWeights:
    """Weights as a stock model of patch size p has them, none of them at its neutral start."""
    network = build_stock_model(variant, 2, resolution=resolution, num_queries=10, group_detr=1).network
    for name, parameter in network.named_parameters():
        if "norm" not in name and "gamma" not in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return SourceWeights(network.state_dict(), ["a", "b"], variant)


@pytest.mark.parametrize(
    ("variant", "side"), [("nano", 64), ("small", 64), ("medium", 96), ("base", 112), ("large", 64)]
)
def test_the_stem_starts_as_the_old_model_on_the_averaged_image(variant: str, side: int) -> None:
    weights = random_weights(variant, side)
    old = build("conv3x3", variant=variant, levels=("P4",), resolution=side)
    load_weights(old.stock, old.class_names, weights, strict=True)
    new = build("hwd", "stem", variant=variant, levels=("P4",), resolution=2 * side)
    report = load_weights(new.stock, new.class_names, weights, strict=True)
    assert set(report.mapped.values()) == {"patch embedding of the 2x2-averaged image"}
    assert report.new == {f"{PATCH_EMBEDDING}.downsample.weight": "downsampler"}
    assert report.skipped == {}
    assert new.network.get_parameter(POSITION_EMBEDDINGS).shape == weights.state[POSITION_EMBEDDINGS].shape
    images = torch.randn(2, 3, 2 * side, 2 * side)
    with torch.no_grad():
        expected = old.network.eval()(F.avg_pool2d(images, 2))
        outputs = new.network.eval()(images)
    for key in ("pred_logits", "pred_boxes"):
        torch.testing.assert_close(outputs[key], expected[key], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", STEM_FOLDS)
def test_the_stem_folds_into_the_stock_patch_embedding(name: str) -> None:
    model = build(name, "stem", levels=("P4",), resolution=128)
    with torch.no_grad():
        for parameter in model.network.get_submodule(PATCH_EMBEDDING).parameters():
            parameter.normal_(std=0.2)
    stock = fold_model(model)
    kernel = stock.network.get_parameter(f"{PATCH_EMBEDDING}.weight")
    assert kernel.shape == (384, 3, 32, 32)
    assert stock.config.patch_size == 32
    assert_same_outputs(model.network, stock.network, torch.randn(1, 3, 128, 128), 1e-4)
    # What an export has folded is rebuilt without the downsampler
    rebuilt = build(FOLDED, "stem", levels=("P4",), resolution=128)
    rebuilt.network.load_state_dict(stock.network.state_dict())
    assert rebuilt.replacements == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("conv3x3", "across the border"), ("blur", "across the border"), ("maxpool", "linear"), ("gated", "linear")],
)
def test_what_does_not_fold_at_the_stem_says_why(name: str, reason: str) -> None:
    model = build(name, "stem", levels=("P4",), resolution=128)
    assert model.network.eval()(torch.rand(1, 3, 128, 128))["pred_logits"].shape == (1, 10, 3)
    with torch.no_grad():
        for parameter in model.network.get_submodule(PATCH_EMBEDDING).parameters():
            parameter.normal_(std=0.2)
    with pytest.raises(FoldError, match=reason):
        fold_model(model)


def test_the_stem_doubles_the_default_resolution() -> None:
    assert build("hwd", "stem", levels=("P4",), resolution=None).stock.resolution == 768
