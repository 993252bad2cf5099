"""The only door to the RF-DETR engine: nothing else in the package imports `rfdetr`.

Facts of rfdetr 1.11 that the rest of the package relies on live here: where the strided convolutions are, which
learning rate a parameter gets, how the loss is normalised, where the published weights come from.
"""

import contextlib
import dataclasses
import hashlib
import io
import logging
import math
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor, nn

from rfdetr_hwd.amp import use_ieee_float32
from rfdetr_hwd.console import is_terminal
from rfdetr_hwd.model.weighted_loss import paired_iou, weighting_term

_pixel_limit = PIL.Image.MAX_IMAGE_PIXELS
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # it scripts functions with torch.jit.script
    from rfdetr import config as rfdetr_config
    from rfdetr.assets.coco_classes import COCO_CLASSES
    from rfdetr.assets.model_weights import ModelWeights, download_pretrain_weights, get_model_cache_dir
    from rfdetr.models._defaults import MODEL_DEFAULTS
    from rfdetr.models.lwdetr import build_criterion_from_config, build_model_from_config
    from rfdetr.models.postprocess import PostProcess
PIL.Image.MAX_IMAGE_PIXELS = _pixel_limit  # the import raises the decompression-bomb limit for the whole process

logger = logging.getLogger(__name__)
logging.getLogger("rf-detr").setLevel(logging.ERROR)  # it warns of DINOv2 weights that are never wanted here

PATCH_EMBEDDING = "backbone.0.encoder.encoder.embeddings.patch_embeddings.projection"
POSITION_EMBEDDINGS = "backbone.0.encoder.encoder.embeddings.position_embeddings"
_UNUSED_PARAMETER = "backbone.0.encoder.encoder.embeddings.mask_token"  # of DINOv2's pre-training

_VARIANTS = {
    "nano": rfdetr_config.RFDETRNanoConfig,
    "small": rfdetr_config.RFDETRSmallConfig,
    "medium": rfdetr_config.RFDETRMediumConfig,
    "base": rfdetr_config.RFDETRBaseConfig,
    "large": rfdetr_config.RFDETRLargeConfig,
}


@dataclass(frozen=True)
class StockModel:
    """A stock RF-DETR network with its configuration.

    Attributes:
        network: Called with images (N, 3, R, R); returns `pred_logits` (N, Q, classes + 1) and `pred_boxes`
            (N, Q, 4) as normalised cxcywh, with `aux_outputs` and `enc_outputs` for the loss.
        config: The `rfdetr` model configuration it was built from.
    """

    network: nn.Module
    config: Any

    @property
    def resolution(self) -> int:
        """Input resolution in pixels (square)."""
        return int(self.config.resolution)

    @property
    def usual_queries(self) -> int:
        """Queries of the variant, if the configuration sets none."""
        return int(type(self.config).model_fields["num_queries"].default)

    @property
    def resolution_step(self) -> int:
        """Pixels that every input resolution must be a multiple of."""
        return int(self.config.patch_size * self.config.num_windows)

    @property
    def levels(self) -> tuple[str, ...]:
        """Feature levels of the projector, in ascending order."""
        return tuple(self.config.projector_scale)

    @property
    def num_proposals(self) -> int:
        """Boxes that the encoder proposes to the queries, one at each place of each level."""
        side = self.resolution // self.config.patch_size
        sides = {"P3": 2 * side, "P4": side, "P5": side // 2}
        return sum(sides[level] ** 2 for level in self.levels)


def build_stock_model(
    variant: str,
    num_classes: int,
    *,
    doubled_stem: bool = False,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    **overrides: Any,
) -> StockModel:
    """Build a stock RF-DETR network with random weights.

    Args:
        variant: nano, small, medium, base or large.
        num_classes: Classes of the dataset, labelled 0 to `num_classes - 1`; upstream adds one unused logit.
        doubled_stem: Twice the patch size, and by default twice the resolution. The number of tokens is unchanged.
        dropout: Dropout of the decoder.
        drop_path: Stochastic depth of the encoder.
        overrides: Fields of `rfdetr`'s model configuration; `None` leaves the variant's own.
    """
    chosen = {key: value for key, value in overrides.items() if value is not None}
    fields = _VARIANTS[variant].model_fields
    # Upstream leaves it at 300, whatever the queries are.
    chosen.setdefault("num_select", chosen.get("num_queries", fields["num_queries"].default))
    scale = 2 if doubled_stem else 1
    chosen["patch_size"] = scale * fields["patch_size"].default
    chosen.setdefault("resolution", scale * fields["resolution"].default)
    # Given, because with its own 37 positions Base would fetch DINOv2 from a hub while it is built.
    chosen["positional_encoding_size"] = chosen["resolution"] // chosen["patch_size"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rfdetr_config.PretrainWeightsCompatibilityWarning)
        config = _VARIANTS[variant](num_classes=num_classes, pretrain_weights=None, device="cpu", **chosen)
    return StockModel(_build_network(config, dropout, drop_path), config)


def rebuild_stock_model(model: StockModel) -> StockModel:
    """Return a stock model of the same configuration with random weights."""
    return StockModel(_build_network(model.config), model.config)


def _build_network(config: Any, dropout: float = 0.0, drop_path: float = 0.0) -> nn.Module:
    defaults = dataclasses.replace(MODEL_DEFAULTS, dropout=dropout)
    network: nn.Module = build_model_from_config(config, _train_config(drop_path=drop_path), defaults)
    network.get_parameter(_UNUSED_PARAMETER).requires_grad_(False)
    return network


class DetectionLoss(nn.Module):
    """Upstream's set criterion, weighted and summed, with the box count given from outside.

    Args:
        model: The stock model whose outputs are scored.
        class_weights: How often an object of each class counts in the classification loss; `None`: once.
    """

    class_weights: Tensor

    def __init__(self, model: StockModel, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.criterion, _ = build_criterion_from_config(model.config, _train_config())
        self.criterion.train()
        if class_weights is not None:
            self.register_buffer("class_weights", torch.tensor(class_weights))
            self.criterion.loss_labels = self._weighted_labels  # called in place of its method

    def count_boxes(self, targets: Iterable[dict[str, Tensor]]) -> int:
        """Return the number of matched boxes that the loss of these targets is summed over.

        Every query group is matched to every box, so groups multiply the count.
        """
        groups = 1 if self.criterion.sum_group_losses else self.criterion.group_detr
        return groups * sum(len(target["labels"]) for target in targets)

    def _weighted_labels(
        self, outputs: dict[str, Tensor], targets: Any, indices: Any, num_boxes: Tensor, **options: Any
    ) -> dict[str, Tensor]:
        """Return upstream's classification loss of one layer, with the class weights."""
        losses: dict[str, Tensor] = type(self.criterion).loss_labels(
            self.criterion, outputs, targets, indices, num_boxes, **options
        )
        matched = options["matched_targets"]
        logits, boxes = (outputs[name][matched.source_indices] for name in ("pred_logits", "pred_boxes"))
        overlaps = paired_iou(boxes.detach(), matched.boxes)
        term = weighting_term(logits, matched.labels, overlaps, self.class_weights, self.criterion.focal_alpha)
        return {**losses, "loss_ce": losses["loss_ce"] + term / num_boxes}

    def forward(
        self, outputs: dict[str, Any], targets: list[dict[str, Tensor]], num_boxes: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted loss and its terms.

        Args:
            outputs: Float32 outputs of the network.
            targets: For each image `labels` (n,) int64 and `boxes` (n, 4) normalised cxcywh.
            num_boxes: Normaliser, used verbatim: the box count of the whole step.

        Returns:
            The scalar to backpropagate, and the weighted, detached terms it is the sum of.
        """
        normaliser = torch.full((), num_boxes, device=outputs["pred_boxes"].device)  # a number would be copied there
        terms = self.criterion(outputs, targets, num_boxes=normaliser)
        weights = self.criterion.weight_dict
        weighted = {name: terms[name] * weights[name] for name in sorted(weights) if name in terms}
        return sum(weighted.values(), start=next(iter(weighted.values())) * 0), {
            name: value.detach() for name, value in weighted.items()
        }


class Decoder(nn.Module):
    """Upstream's decoder of outputs, with boxes clipped to the image.

    Args:
        num_select: Pairs of query and class that are selected in each image; the last class is upstream's unused one.
    """

    def __init__(self, num_select: int) -> None:
        super().__init__()
        self.select = PostProcess(num_select=num_select)

    def forward(self, outputs: dict[str, Tensor], sizes: Tensor) -> list[dict[str, Tensor]]:
        """Return `boxes` (K, 4) xyxy in pixels, `scores` (K,) descending and `labels` (K,) of each image.

        Args:
            outputs: Float32 outputs of the network.
            sizes: Shape (N, 2, 2), each (height, width) in pixels: of the model's square, by which boxes are scaled,
                and of the image in its top left corner, to which they are clipped. Upstream clips to the square, which
                is the image unless it is letterboxed.
        """
        results: list[dict[str, Tensor]] = self.select(outputs, sizes[:, 0])
        limits = sizes[:, 1].flip(1).repeat(1, 2)  # width, height, width, height
        for result, limit in zip(results, limits, strict=True):
            result["boxes"] = torch.minimum(result["boxes"], limit)
        return results


def build_postprocess(model: StockModel) -> nn.Module:
    """Return the decoder of a model's outputs."""
    return Decoder(model.config.num_select)


def position_grid_side(position_embeddings: Tensor) -> int:
    """Return the height of the square grid of position embeddings (1, height**2 + 1, D), without the class token."""
    return math.isqrt(position_embeddings.shape[1] - 1)


@dataclass(frozen=True)
class PublishedWeights:
    """A published checkpoint: its path on this machine, its URL, its MD5."""

    path: Path
    url: str
    md5: str

    def fetch(self) -> Path:
        """Download the file unless it is there, check its MD5 and return its path.

        Raises:
            OSError: It cannot be downloaded or written.
            ValueError: Its MD5 is not the published one.
        """
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            logger.info("downloading %s", self.url)
            # Its progress bar would be drawn even where standard error is not a terminal.
            with contextlib.nullcontext() if is_terminal(sys.stderr) else contextlib.redirect_stderr(io.StringIO()):
                download_pretrain_weights(str(self.path))
        digest = hashlib.md5(self.path.read_bytes(), usedforsecurity=False).hexdigest()
        if digest != self.md5:
            raise ValueError(
                f"{self.path} has MD5 {digest}, the published file has {self.md5}. Remove it to download it again"
            )
        return self.path


def published_weights(variant: str) -> PublishedWeights:
    """Return the published COCO checkpoint of a variant."""
    filename = _VARIANTS[variant].model_fields["pretrain_weights"].default
    asset = ModelWeights.from_filename(filename)
    return PublishedWeights(Path(get_model_cache_dir()) / filename, asset.url, asset.md5_hash)


def coco_class_names() -> list[str]:
    """Return the class name of each row of a published class head; unused rows are empty."""
    return [COCO_CLASSES.get(category_id, "") for category_id in range(max(COCO_CLASSES) + 1)]


def _train_config(**settings: Any) -> Any:
    return rfdetr_config.TrainConfig(dataset_dir=".", output_dir=".", **settings)


def load_rfdetr(path: Path) -> Any:
    """Load a checkpoint with `rfdetr.RFDETR.from_checkpoint`, as any user of RF-DETR would, onto the CPU.

    Its import switches TF32 on: float32 is IEEE float32 again afterwards.
    """
    from rfdetr import RFDETR

    use_ieee_float32()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RFDETR.from_checkpoint(str(path.resolve()), device="cpu")
