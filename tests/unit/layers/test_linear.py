"""The linear family folds exactly into the stock 3x3 and starts from it in the least-squares sense."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from rfdetr_hwd.layers.linear import LinearDownsample, draw_equal_kernel
from rfdetr_hwd.layers.registry import build_downsample, list_downsamples

LINEAR = [name for name in list_downsamples() if isinstance(build_downsample(name, 4, 6), LinearDownsample)]
WHOLE_2X2 = ["conv2x2", "spd", "hwd"]


def test_the_specification_says_which_fold() -> None:
    assert set(LINEAR) == {"conv3x3", "conv2x2", "hwd", "spd", "haar_ll", "avgpool", "blur"}


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (6, 7), (1, 1)])
def test_the_fold_is_exact(name: str, size: tuple[int, int]) -> None:
    module = build_downsample(name, 4, 6).double()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    folded = F.conv2d(x, module.fold(), stride=2, padding=1)
    torch.testing.assert_close(folded, module(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", LINEAR)
def test_fitting_its_own_fold_changes_nothing(name: str) -> None:
    module = build_downsample(name, 4, 6).double()
    weight = module.weight.detach().clone()
    assert module.fit(module.fold()) == pytest.approx(1)
    torch.testing.assert_close(module.weight, weight, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", LINEAR)
def test_the_fit_is_the_best_for_white_input(name: str) -> None:
    """No other weight is nearer: the residual is orthogonal to everything the module can represent."""
    module = build_downsample(name, 4, 6).double()
    kernel = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    kept = module.fit(kernel)
    residual = kernel - module.fold()
    for direction in module.basis:
        assert (residual * direction).sum(dim=(2, 3)).abs().max() < 1e-12
    assert kept == pytest.approx(float(module.fold().square().sum() / kernel.square().sum()))
    x = torch.randn(64, 4, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        error = (F.conv2d(x, kernel, stride=2, padding=1) - module(x))[..., 1:, 1:].square().mean()
        total = F.conv2d(x, kernel, stride=2, padding=1)[..., 1:, 1:].square().mean()
    assert float(1 - error / total) == pytest.approx(kept, abs=0.03)


def test_an_equal_start_is_equal() -> None:
    kernel = draw_equal_kernel(4, 6)
    modules = [build_downsample(name, 4, 6) for name in WHOLE_2X2]
    assert [module.fit(kernel) for module in modules] == pytest.approx([1, 1, 1])
    for module in modules:
        torch.testing.assert_close(module.fold().float(), kernel, atol=1e-6, rtol=0)


def test_equal_starts_take_the_same_sgd_steps_and_not_the_same_adamw_steps() -> None:
    """hwd, spd and conv2x2 differ by a rotation, which SGD does not see and AdamW does."""

    def folds(optimizer: type[torch.optim.Optimizer], lr: float) -> list[torch.Tensor]:
        results = []
        for name in WHOLE_2X2:
            module = build_downsample(name, 4, 6).double()
            module.fit(kernel)
            steps = optimizer(module.parameters(), lr=lr)
            for x in inputs:
                steps.zero_grad()
                module(x).square().mean().backward()
                steps.step()
            results.append(module.fold())
        return results

    kernel = draw_equal_kernel(4, 6).double()
    inputs = torch.randn(20, 2, 4, 8, 8, dtype=torch.float64)
    conv2x2, spd, hwd = folds(torch.optim.SGD, 0.1)
    torch.testing.assert_close(spd, conv2x2, atol=1e-10, rtol=0)
    torch.testing.assert_close(hwd, conv2x2, atol=1e-10, rtol=0)
    conv2x2, spd, hwd = folds(torch.optim.AdamW, 0.01)
    torch.testing.assert_close(spd, conv2x2, atol=1e-10, rtol=0)
    assert (hwd - conv2x2).norm() / conv2x2.norm() > 0.01
