"""From configuration to model: build the stock network, then swap. Weights are loaded last, into the swapped
network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from rfdetr_hwd.config.schema import DownsampleSection, ModelSection
from rfdetr_hwd.errors import ConfigError, explaining
from rfdetr_hwd.model.rfdetr import StockModel, build_stock_model
from rfdetr_hwd.model.source_weights import WeightsError
from rfdetr_hwd.model.swap import Replacement, swap_downsample


@dataclass(frozen=True)
class BuiltModel:
    """A model ready to train or to load.

    Attributes:
        stock: The upstream model around the (swapped) network.
        class_names: Class names in label order.
        replacements: The convolutions that the swap replaced.
        resize: How an image is fitted into its square, `stretch` or `letterbox`.
    """

    stock: StockModel
    class_names: tuple[str, ...]
    replacements: list[Replacement]
    resize: Literal["stretch", "letterbox"]

    @property
    def network(self) -> nn.Module:
        """The network: images (N, 3, R, R) to raw outputs."""
        return self.stock.network


def build_model(model: ModelSection, downsample: DownsampleSection, class_names: Sequence[str]) -> BuiltModel:
    """Build the configured network with random weights and swap its downsampler.

    Args:
        model: The `model` section.
        downsample: The `downsample` section.
        class_names: Class names in label order.

    Raises:
        ConfigError: More detections are to be selected than there are pairs of query and class.
        SwapError: The swap would replace nothing.
        DownsampleError: The downsampler is unknown or refuses its options.
    """
    # Build the stock network.
    stock = build_stock_model(
        model.variant,
        len(class_names),
        doubled_stem=downsample.site == "stem",
        dropout=model.dropout,
        drop_path=model.drop_path,
        projector_scale=list(model.levels),
        resolution=model.resolution,
        num_queries=model.num_queries,
        num_select=model.num_select,
        group_detr=model.group_detr,
        freeze_encoder=model.freeze_encoder,
        gradient_checkpointing=model.gradient_checkpointing,
    )
    num_pairs = stock.config.num_queries * len(class_names)
    if stock.config.num_select > num_pairs:
        raise ConfigError(
            f"model.num_select={stock.config.num_select}: {stock.config.num_queries} queries and {len(class_names)} "
            f"classes make {num_pairs} pairs to select from. Lower it, or raise model.num_queries"
        )
    # Swap the downsampler.
    options = downsample_options(downsample)
    replacements = swap_downsample(stock.network, downsample.name, downsample.site, downsample.init, **options)
    return BuiltModel(stock, tuple(class_names), replacements, model.resize)


def downsample_options(downsample: DownsampleSection) -> dict[str, str | int | float | bool]:
    """Return the options that the downsampler is built with: its own, and the backend where there is a choice."""
    options = dict(downsample.options)
    if downsample.name in ("hwd", "dwt"):
        options.setdefault("backend", downsample.backend)
    return options


def load_model(
    model: ModelSection, downsample: DownsampleSection, class_names: Sequence[str], state: dict[str, Tensor]
) -> BuiltModel:
    """Rebuild a trained model from its checkpoint's record.

    Args:
        model: The `model` section it was trained with.
        downsample: The `downsample` section it was trained with.
        class_names: Class names in label order.
        state: State dict of the network; every key must match.

    Raises:
        WeightsError: A key or a shape does not match.
    """
    built = build_model(model, downsample, class_names)
    with explaining(RuntimeError, "the weights do not match the recorded model", WeightsError):
        built.network.load_state_dict(state)
    return built
