"""The swap replaces the convolution and nothing else, and an inert swap is an error."""

import pytest
import torch

from rfdetr_hwd.config import DownsampleSection, ModelSection
from rfdetr_hwd.layers.downsample import HWD
from rfdetr_hwd.layers.wavelet import embed_2x2_in_3x3, fold_haar
from rfdetr_hwd.model.build import build_model
from rfdetr_hwd.model.swap import SwapError, projector_sites

SETTINGS = {"resolution": 64, "pretrain_weights": None, "num_queries": 10, "group_detr": 1}


def test_only_the_convolution_changes() -> None:
    stock = build_model(ModelSection(**SETTINGS), DownsampleSection(name="conv3x3"), ["a", "b"])
    swapped = build_model(ModelSection(**SETTINGS), DownsampleSection(name="hwd"), ["a", "b"])
    sites = projector_sites(stock.network)
    assert len(sites) == 4
    assert [r.path for r in swapped.replacements] == list(sites)
    assert all(isinstance(swapped.network.get_submodule(path), HWD) for path in sites)
    assert {r.parameters for r in swapped.replacements} == {(9 * 384 * 384, 4 * 384 * 384)}
    kinds = [{n: type(m) for n, m in b.network.named_modules() if n not in sites} for b in (stock, swapped)]
    assert kinds[0] == kinds[1]
    assert stock.replacements == []


def test_the_folded_kernel_in_the_stock_model_computes_the_same() -> None:
    swapped = build_model(ModelSection(**SETTINGS), DownsampleSection(name="hwd"), ["a", "b"])
    stock = build_model(ModelSection(**SETTINGS), DownsampleSection(name="conv3x3"), ["a", "b"])
    state = swapped.network.state_dict()
    for path in projector_sites(stock.network):
        state[f"{path}.weight"] = embed_2x2_in_3x3(fold_haar(state[f"{path}.weight"]))
    stock.network.load_state_dict(state)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = swapped.network.eval()(x), stock.network.eval()(x)
    torch.testing.assert_close(ours["pred_logits"], theirs["pred_logits"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours["pred_boxes"], theirs["pred_boxes"], atol=1e-5, rtol=1e-5)


def test_an_inert_swap_says_what_to_set() -> None:
    with pytest.raises(SwapError, match=r"would replace nothing.*model.levels=\[P4,P5\]"):
        build_model(ModelSection(**SETTINGS, levels=("P4",)), DownsampleSection(name="hwd"), ["a"])


def test_stock_rfdetr_needs_no_site() -> None:
    assert build_model(ModelSection(**SETTINGS, levels=("P4",)), DownsampleSection(name="conv3x3"), ["a"])
