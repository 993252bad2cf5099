"""Back to stock RF-DETR: every downsampler folded into the convolution it stood for, in float64, stored in float32."""

import torch
from torch import nn

from rfdetr_hwd.errors import UserError, explaining
from rfdetr_hwd.layers.linear import LinearDownsample
from rfdetr_hwd.layers.stem import DownsampledPatchEmbedding
from rfdetr_hwd.model.build import BuiltModel
from rfdetr_hwd.model.rfdetr import StockModel, rebuild_stock_model


class FoldError(UserError):
    """A downsampler that no stock convolution can represent."""


def fold_model(model: BuiltModel) -> StockModel:
    """Return a stock RF-DETR with the same outputs, up to rounding.

    Args:
        model: A model whose downsampler folds: the linear ones at the projector, the 2x2 family at the stem.

    Raises:
        FoldError: The downsampler does not fold; the message says why.
    """
    state = dict(model.network.state_dict())
    for replacement in model.replacements:
        path = replacement.path
        folded = {f"{path}.{name}": value for name, value in _fold(model.network.get_submodule(path), path).items()}
        for key in [key for key in state if key.startswith(f"{path}.")]:
            del state[key]
        state.update(folded)
    stock = rebuild_stock_model(model.stock)
    stock.network.load_state_dict(state)
    return stock


def _fold(module: nn.Module, path: str) -> dict[str, torch.Tensor]:
    """Return the parameters of the stock convolution that computes the same as a module."""
    kind = type(module).__name__
    if isinstance(module, LinearDownsample):
        return {"weight": module.fold().float()}
    if isinstance(module, DownsampledPatchEmbedding):
        unfolded = f"{type(module.downsample).__name__} at the stem does not fold into the patch embedding"
        with explaining(ValueError, unfolded, FoldError):
            weight = module.fold().float()
        return {"weight": weight, "bias": module.conv.bias.detach()}  # type: ignore[union-attr]
    reason = "it is a circular convolution larger than 3x3" if kind == "DWT" else "it is not one linear 3x3 convolution"
    raise FoldError(f"{kind} at {path} does not fold into the stock 3x3 convolution: {reason}")
