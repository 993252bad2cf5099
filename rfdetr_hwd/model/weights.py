"""Put trained weights into a network whose levels, classes, queries or resolution differ, and account for every key.

Each tensor of the network has one row in the report: loaded unchanged, mapped by a named rule, or new for a named
reason. Each unused tensor of the source is skipped for a named reason. Anything else is an error, because a half-loaded
model that goes unnoticed costs days.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rfdetr_hwd.layers.linear import LinearDownsample
from rfdetr_hwd.layers.stem import DownsampledPatchEmbedding
from rfdetr_hwd.model import rfdetr as upstream
from rfdetr_hwd.model.queries import ADDED_HEAD, QUERY_KEYS, QueryMap, head_group
from rfdetr_hwd.model.rfdetr import StockModel
from rfdetr_hwd.model.source_weights import STAGE, SourceWeights, WeightsError

NEW_LEVEL_LOGIT = -6.0
"""Attention logit of a level that the source does not have, below the mean of those it has, in every head.

By Jensen's inequality its points together have at most exp(-6) = 0.25 % of the weight of the old points, at every
query.
"""

_CLASS_HEAD = re.compile(r"(?:class_embed|transformer\.enc_out_class_embed\.\d+)\.(?:weight|bias)")
_PROPOSAL_SIZE = re.compile(r"transformer\.enc_out_bbox_embed\.\d+\.layers\.2\.bias")


@dataclass
class LoadReport:
    """How each tensor was loaded, by key, with the rule or the reason."""

    loaded: list[str] = field(default_factory=list)
    mapped: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, int, str]]:
        """Return (kind, number of tensors, reason) rows for a table."""
        rows = [("loaded", len(self.loaded), "unchanged")]
        for kind, reasons in (("mapped", self.mapped), ("new", self.new), ("skipped", self.skipped)):
            rows += [(kind, count, reason) for reason, count in Counter(reasons.values()).items()]
        return rows


def load_weights(model: StockModel, class_names: Sequence[str], source: SourceWeights, strict: bool) -> LoadReport:
    """Load weights into a network, map what differs, and report how each tensor was loaded.

    Args:
        model: The model to fill, after the swap. New tensors keep their values.
        class_names: Class names of the model's own labels, in label order.
        source: The weights.
        strict: Refuse tensors that no mapping covers. Otherwise they stay new or are skipped, and are reported.

    Raises:
        WeightsError: The weights do not fit (with `strict`), or are not RF-DETR's at all.
    """
    # Fill every tensor of the model, and account for the rest of the source.
    mapper = _Mapper(model, class_names, source)
    report = LoadReport()
    state = {key: mapper.fill(key, value, report) for key, value in model.network.state_dict().items()}
    for key in source.state.keys() - mapper.used:
        report.skipped[key] = mapper.why_skipped(key)
    # Refuse a misfit.
    unexplained = [key for reasons in (report.new, report.skipped) for key, why in reasons.items() if why == _UNFIT]
    if not report.loaded or (strict and unexplained):
        raise WeightsError(mapper.misfit(unexplained, state))
    # Load.
    model.network.load_state_dict(state)
    return report


_UNFIT = "does not fit, and no mapping applies"


class _Mapper:
    """The rules, for one model and one source."""

    def __init__(self, model: StockModel, class_names: Sequence[str], source: SourceWeights) -> None:
        self.model, self.class_names, self.source = model, class_names, source
        self.used: set[str] = set()
        self.level_map = {
            model.levels.index(level): i for i, level in enumerate(source.levels) if level in model.levels
        }
        self.queries = QueryMap(source.num_groups, model.config.group_detr, model.config.num_queries)

    def fill(self, key: str, fresh: Tensor, report: LoadReport) -> Tensor:
        """Return the value of one tensor of the model and enter it in the report."""
        # Find the tensor of the source that this one starts from.
        stage = STAGE.match(key)
        if stage and int(stage[2]) not in self.level_map:
            report.new[key] = f"level {self.model.levels[int(stage[2])]}"
            return fresh
        source_key = f"{stage[1]}{self.level_map[int(stage[2])]}{stage[3]}" if stage else self.queries.source_key(key)
        if key.startswith(f"{upstream.PATCH_EMBEDDING}.") and key not in self.source.state:
            return self._stem(key, fresh, report)
        old = self.source.state.get(source_key)
        if old is None:
            report.new[key] = "downsampler" if stage and "stages_sampling" in key else _UNFIT
            return fresh
        self.used.add(source_key)
        # Map it to the shape of this one.
        value, rule = self._map(key, old, fresh)
        if value is None:
            report.new[key] = rule
            return fresh
        # Report how it was loaded.
        if source_key != key:
            rule = (rule or "level moved") if stage else "; ".join(filter(None, (ADDED_HEAD, rule)))
        if rule:
            report.mapped[key] = rule
        else:
            report.loaded.append(key)
        return value.to(fresh.dtype)

    def why_skipped(self, key: str) -> str:
        """Return why a tensor of the source has no place in the model."""
        group, stage = head_group(key), STAGE.match(key)
        if group is not None and group >= self.model.config.group_detr:
            return "query group beyond group_detr"
        if stage and int(stage[2]) not in self.level_map.values():
            return f"level {self.source.levels[int(stage[2])]}"
        return "downsampler" if stage and "stages_sampling" in key else _UNFIT

    def misfit(self, keys: Sequence[str], state: Mapping[str, Tensor]) -> str:
        """Return the message about tensors that no mapping covers: how they differ, and what to do."""
        shown = ", ".join(self._difference(key, state) for key in keys[:4]) + (", ..." if len(keys) > 4 else "")
        advice = "Choose the variant and downsampler they were trained with"
        if keys and set(keys) <= set(QUERY_KEYS):
            advice = "Give weights that rfdetr or rfdetr-hwd has written"
        return (
            f"{self.source.origin} does not fit this model: {len(keys)} tensors differ ({shown}). {advice}, or set "
            "model.strict_weights=false to initialize those parts randomly"
        )

    def _difference(self, key: str, state: Mapping[str, Tensor]) -> str:
        ours, theirs = state.get(key), self.source.state.get(key)
        if ours is None or theirs is None:
            return f"{key} is {'not in the model' if ours is None else 'missing'}"
        if key in QUERY_KEYS and len(theirs) % self.queries.old_groups:
            return f"{key} has {len(theirs)} queries, which are not {self.queries.old_groups} groups of one size"
        return f"{key} has the shape {tuple(theirs.shape)}, not {tuple(ours.shape)}"

    def _map(self, key: str, old: Tensor, fresh: Tensor) -> tuple[Tensor | None, str]:
        # Parts with a rule of their own, which holds for equal shapes too.
        if _CLASS_HEAD.fullmatch(key):
            return self._class_rows(old, fresh)
        if key.endswith(("cross_attn.sampling_offsets.weight", "cross_attn.sampling_offsets.bias")):
            return self._attention_levels(old, fresh, is_logit=False, is_bias=key.endswith("bias"))
        if key.endswith(("cross_attn.attention_weights.weight", "cross_attn.attention_weights.bias")):
            return self._attention_levels(old, fresh, is_logit=True, is_bias=key.endswith("bias"))
        if key in QUERY_KEYS:
            return self.queries.fill(old, fresh) if self.queries.fits(old, fresh) else (None, _UNFIT)
        if _PROPOSAL_SIZE.fullmatch(key) and old.shape == fresh.shape:
            return self._proposal_size(old)
        # Parts that are copied, or changed in shape.
        if old.shape == fresh.shape:
            return old, ""
        if "stages_sampling" in key and old.shape[2:] == (3, 3):
            return self._warm_start(key, old)
        if key == upstream.POSITION_EMBEDDINGS and old.shape[-1] == fresh.shape[-1]:
            return _resize_positions(old, fresh), "positions resized"
        return None, "downsampler" if "stages_sampling" in key else _UNFIT

    def _warm_start(self, key: str, kernel: Tensor) -> tuple[Tensor | None, str]:
        """Fit a linear downsampler to the stock 3x3 that stood in its place."""
        module = self.model.network.get_submodule(key.rpartition(".")[0])
        if not isinstance(module, LinearDownsample):
            return None, "downsampler"
        kept = module.fit(kernel)
        return module.weight.detach(), f"warm start from the stock 3x3, {kept:.0%} of its energy kept"

    def _stem(self, key: str, fresh: Tensor, report: LoadReport) -> Tensor:
        """Start the embedding of the bands from a stock patch embedding; the downsampler starts as Haar analysis."""
        stem = self.model.network.get_submodule(upstream.PATCH_EMBEDDING)
        kernel, bias = (self.source.state.get(f"{upstream.PATCH_EMBEDDING}.{name}") for name in ("weight", "bias"))
        if not isinstance(stem, DownsampledPatchEmbedding) or kernel is None or bias is None:
            report.new[key] = _UNFIT
            return fresh
        if ".downsample." in key:
            report.new[key] = "downsampler"
            return fresh
        if kernel.shape[2:] != stem.conv.weight.shape[2:]:
            report.new[key] = _UNFIT
            return fresh
        self.used |= {f"{upstream.PATCH_EMBEDDING}.weight", f"{upstream.PATCH_EMBEDDING}.bias"}
        stem.start_from(kernel, bias)
        report.mapped[key] = "patch embedding of the 2x2-averaged image"
        return stem.conv.weight.detach() if key.endswith("weight") else stem.conv.bias.detach()  # type: ignore[union-attr]

    def _class_rows(self, old: Tensor, fresh: Tensor) -> tuple[Tensor | None, str]:
        if list(self.class_names) == list(self.source.class_names) and old.shape == fresh.shape:
            return old, ""
        if old.shape[1:] != fresh.shape[1:]:
            return None, _UNFIT
        rows = {name: row for row, name in enumerate(self.source.class_names) if name and row < len(old)}
        value = fresh.clone()
        known = [(label, rows[name]) for label, name in enumerate(self.class_names) if name in rows]
        if not known:
            return None, "class head: no class name in common"
        for label, row in known:
            value[label] = old[row]
        return value, f"class head by name: {len(known)} of {len(self.class_names)} classes known"

    def _attention_levels(
        self, old: Tensor, fresh: Tensor, *, is_logit: bool, is_bias: bool
    ) -> tuple[Tensor | None, str]:
        if self.source.levels == self.model.levels:
            return (old, "") if old.shape == fresh.shape else (None, _UNFIT)
        heads, rest = self.model.config.ca_nheads, fresh.shape[1:]
        points = len(fresh) // (heads * len(self.model.levels))
        if old.shape != (heads * len(self.source.levels) * points, *rest):
            return None, _UNFIT
        old_levels = old.reshape(heads, len(self.source.levels), points, *rest)
        value = fresh.clone().reshape(heads, len(self.model.levels), points, *rest)
        if is_logit:
            value[:] = old_levels.mean(dim=(1, 2), keepdim=True) + (NEW_LEVEL_LOGIT if is_bias else 0.0)
        for new, level in self.level_map.items():
            value[:, new] = old_levels[:, level]
        return value.flatten(0, 2), "attention over the new levels"

    def _proposal_size(self, old: Tensor) -> tuple[Tensor, str]:
        # A proposal of the level at index i is 0.05 * 2**i wide, and the head predicts the logarithm of a factor on it.
        shift = next((new - level for new, level in self.level_map.items()), 0)
        if not shift:
            return old, ""
        return torch.cat([old[:2], old[2:] - shift * math.log(2)]), "proposal size of the moved level"


def _resize_positions(old: Tensor, fresh: Tensor) -> Tensor:
    side, new_side = upstream.position_grid_side(old), upstream.position_grid_side(fresh)
    grid = old[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2).float()  # (1, D, side, side)
    grid = F.interpolate(grid, size=(new_side, new_side), mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([old[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2).to(old.dtype)], dim=1)
