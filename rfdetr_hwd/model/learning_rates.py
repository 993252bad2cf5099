"""The learning rate and weight decay of each parameter, as upstream's recipe sets them."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from rfdetr_hwd.config.schema import TrainSection


def learning_rates(
    network: nn.Module, config: Any, train: TrainSection
) -> Iterator[tuple[str, nn.Parameter, float, float]]:
    """Yield (name, parameter, learning rate, weight decay) of every trainable parameter, by upstream's recipe.

    The encoder's rate is `lr_encoder * component_decay**2 * encoder_layer_decay**(depth below the top)`, without weight
    decay on scales, biases, norms and embeddings; the decoder's is `lr * component_decay`; everything else gets `lr`.

    Args:
        network: The model.
        config: Its configuration, upstream's.
        train: The rates and decays.
    """
    num_layers = config.out_feature_indexes[-1] + 1
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        called = rate_name(name)
        if called == "lr_encoder":
            depth = num_layers + 1 - _encoder_layer(name, num_layers)
            undecayed = any(part in name for part in ("gamma", "pos_embed", "rel_pos", "bias", "norm", "embeddings"))
            rate = train.lr_encoder * train.component_decay**2 * train.encoder_layer_decay**depth
            yield name, parameter, rate, 0.0 if undecayed else train.weight_decay
        else:
            rate = train.lr * (train.component_decay if called == "lr_decoder" else 1.0)
            yield name, parameter, rate, train.weight_decay


def rate_name(parameter: str) -> str:
    """Return the name of a parameter's learning rate: `lr_encoder`, `lr_decoder`, or `lr` of everything else.

    The rates of the encoder fall from layer to layer; the metrics show the highest, which its last norm has.
    """
    if parameter.startswith("backbone.0.encoder."):
        return "lr_encoder"
    return "lr_decoder" if "transformer.decoder" in parameter else "lr"


def _encoder_layer(name: str, num_layers: int) -> int:
    if "embeddings" in name:
        return 0
    if ".layer." in name:
        return int(name.split(".layer.")[1].split(".")[0]) + 1
    return num_layers + 1
