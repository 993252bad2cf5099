"""Put trained weights into a network whose levels, classes, queries or resolution differ, and account for every key.

Each tensor of the network ends in one row of the report: loaded as it is, mapped by a rule that is named, or new for a
reason that is named. Each tensor of the source that is not used is left out for a reason that is named. Anything else
is an error, because a silently half-loaded model costs days.
"""

import argparse
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rfdetr_hwd.errors import UserError
from rfdetr_hwd.layers.linear import LinearDownsample
from rfdetr_hwd.layers.stem import DownsampledPatchEmbedding
from rfdetr_hwd.model import upstream
from rfdetr_hwd.model.upstream import StockModel
from rfdetr_hwd.untrusted import UntrustedFileError, load_tensors

NEW_LEVEL_LOGIT = -6.0
"""Attention logit of a level that the source does not have, below the mean of those it has, in every head.

By Jensen's inequality its points have together at most exp(-6) = 0.25 % of what the old points have, at every query.
"""

_STAGE = re.compile(r"(.*projector\.stages(?:_sampling)?\.)(\d+)(\..*)")
_GROUP = re.compile(r"transformer\.enc_out(?:put|put_norm|_bbox_embed|_class_embed)\.(\d+)\.")
_CLASS_HEAD = re.compile(r"(?:class_embed|transformer\.enc_out_class_embed\.\d+)\.(?:weight|bias)")
_PROPOSAL_SIZE = re.compile(r"transformer\.enc_out_bbox_embed\.\d+\.layers\.2\.bias")


class WeightsError(UserError):
    """Weights that are missing, unreadable or do not fit."""


@dataclass(frozen=True)
class SourceWeights:
    """Trained weights to start from.

    Attributes:
        state: State dict of an RF-DETR network, stock or with a swapped downsampler.
        class_names: Class name of each row of the class head, as far as it is known.
        origin: Where they come from, for messages.
    """

    state: dict[str, Tensor]
    class_names: Sequence[str]
    origin: str

    @property
    def levels(self) -> tuple[str, ...]:
        """Feature levels, read off the resampling branches: P3 upsamples, P5 convolves, P4 has no parameter."""
        stages = sorted({int(m[2]) for key in self.state if (m := _STAGE.match(key)) and ".stages." in m[1]})
        return tuple(self._level(stage) for stage in stages)

    @property
    def num_groups(self) -> int:
        """Query groups (Group DETR)."""
        return 1 + max((int(m[1]) for key in self.state if (m := _GROUP.match(key))), default=0)

    def _level(self, stage: int) -> str:
        branch = f"stages_sampling.{stage}.0.0."
        kinds = [key.split(branch)[1] for key in self.state if branch in key]
        if not kinds:
            return "P4"
        return "P5" if any(kind.startswith(("conv.", "bn.")) for kind in kinds) else "P3"


@dataclass
class LoadReport:
    """What became of every tensor, by key, with the rule or the reason."""

    loaded: list[str] = field(default_factory=list)
    mapped: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, int, str]]:
        """Return (kind, number of tensors, reason) rows for a table."""
        rows = [("loaded", len(self.loaded), "as they are")]
        for kind, reasons in (("mapped", self.mapped), ("new", self.new), ("left out", self.left_out)):
            rows += [(kind, count, reason) for reason, count in Counter(reasons.values()).items()]
        return rows


def read_pth(path: Path) -> SourceWeights:
    """Read an RF-DETR `.pth` without running any code that it may carry.

    Args:
        path: Checkpoint of `rfdetr`, with the state dict under `model`.

    Raises:
        WeightsError: The file is not such a checkpoint, or holds objects other than tensors and plain values.
    """
    try:
        content = load_tensors(path, [argparse.Namespace])
    except FileNotFoundError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from None
    except UntrustedFileError as error:
        raise WeightsError(f"{path} is not a checkpoint that can be loaded safely: {error}") from None
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} is not an RF-DETR checkpoint: it has no state dict under 'model'")
    return SourceWeights(state, _recorded_class_names(content, state), str(path))


def load_weights(model: StockModel, class_names: Sequence[str], source: SourceWeights, strict: bool) -> LoadReport:
    """Load weights into a network, mapping what differs, and report on every tensor.

    Args:
        model: The model to fill, downsampler swapped already; what stays new keeps its values.
        class_names: Class names of the model's own labels, in label order.
        source: The weights.
        strict: Refuse tensors that no rule explains; otherwise they stay new or are left out, and the report says so.

    Raises:
        WeightsError: The weights do not fit (with `strict`), or are not RF-DETR's at all.
    """
    mapper = _Mapper(model, class_names, source)
    report = LoadReport()
    state = {key: mapper.fill(key, value, report) for key, value in model.network.state_dict().items()}
    for key in source.state.keys() - mapper.used:
        report.left_out[key] = mapper.why_left_out(key)
    unexplained = [key for reasons in (report.new, report.left_out) for key, why in reasons.items() if why == _UNFIT]
    if not report.loaded or (strict and unexplained):
        shown = ", ".join(unexplained[:4]) + (", ..." if len(unexplained) > 4 else "")
        raise WeightsError(
            f"{source.origin} does not fit this model: {len(unexplained)} tensors differ ({shown}). Choose the variant "
            "and downsampler they were trained with, or set model.strict_weights=false to start those parts fresh"
        )
    model.network.load_state_dict(state)
    return report


_UNFIT = "does not fit, and no rule explains it"


class _Mapper:
    """The rules, for one model and one source."""

    def __init__(self, model: StockModel, class_names: Sequence[str], source: SourceWeights) -> None:
        self.model, self.class_names, self.source = model, class_names, source
        self.used: set[str] = set()
        self.level_map = {
            model.levels.index(level): i for i, level in enumerate(source.levels) if level in model.levels
        }

    def fill(self, key: str, fresh: Tensor, report: LoadReport) -> Tensor:
        """Return the value of one tensor of the model and enter it in the report."""
        stage = _STAGE.match(key)
        if stage and int(stage[2]) not in self.level_map:
            report.new[key] = f"level {self.model.levels[int(stage[2])]}"
            return fresh
        source_key = f"{stage[1]}{self.level_map[int(stage[2])]}{stage[3]}" if stage else key
        if key.startswith(f"{upstream.PATCH_EMBEDDING}.") and key not in self.source.state:
            return self._stem(key, fresh, report)
        old = self.source.state.get(source_key)
        if old is None:
            report.new[key] = "downsampler" if stage and "stages_sampling" in key else _UNFIT
            return fresh
        self.used.add(source_key)
        value, rule = self._map(key, old, fresh)
        if value is None:
            report.new[key] = rule
            return fresh
        if rule or source_key != key:
            report.mapped[key] = rule or "level moved"
        else:
            report.loaded.append(key)
        return value.to(fresh.dtype)

    def why_left_out(self, key: str) -> str:
        """Return why a tensor of the source has no place in the model."""
        group, stage = _GROUP.match(key), _STAGE.match(key)
        if group and int(group[1]) >= self.model.config.group_detr:
            return "query group beyond group_detr"
        if stage and int(stage[2]) not in self.level_map.values():
            return f"level {self.source.levels[int(stage[2])]}"
        return "downsampler" if stage and "stages_sampling" in key else _UNFIT

    def _map(self, key: str, old: Tensor, fresh: Tensor) -> tuple[Tensor | None, str]:
        if _CLASS_HEAD.fullmatch(key):
            return self._class_rows(old, fresh)
        if key.endswith(("cross_attn.sampling_offsets.weight", "cross_attn.sampling_offsets.bias")):
            return self._attention_levels(old, fresh, is_logit=False, is_bias=key.endswith("bias"))
        if key.endswith(("cross_attn.attention_weights.weight", "cross_attn.attention_weights.bias")):
            return self._attention_levels(old, fresh, is_logit=True, is_bias=key.endswith("bias"))
        if _PROPOSAL_SIZE.fullmatch(key) and old.shape == fresh.shape:
            return self._proposal_size(old)
        if old.shape == fresh.shape:
            return old, ""
        if "stages_sampling" in key and old.shape[2:] == (3, 3):
            return self._warm_start(key, old)
        if key == upstream.POSITION_EMBEDDINGS and old.shape[-1] == fresh.shape[-1]:
            return _resize_positions(old, fresh), "positions resized"
        if key in ("refpoint_embed.weight", "query_feat.weight"):
            return self._queries(old, fresh)
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
            return old, ""
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

    def _queries(self, old: Tensor, fresh: Tensor) -> tuple[Tensor | None, str]:
        groups, wanted = self.source.num_groups, self.model.config.group_detr
        num_queries = self.model.config.num_queries
        if len(old) % groups:
            return None, _UNFIT
        grouped = old.unflatten(0, (groups, -1))[:wanted, :num_queries].flatten(0, 1)
        if grouped.shape != fresh.shape:
            return None, "more queries or groups than the weights have"
        return grouped, "queries and groups cut"


def _resize_positions(old: Tensor, fresh: Tensor) -> Tensor:
    side, new_side = upstream.position_grid_side(old), upstream.position_grid_side(fresh)
    grid = old[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2).float()  # (1, D, side, side)
    grid = F.interpolate(grid, size=(new_side, new_side), mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([old[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2).to(old.dtype)], dim=1)


def _recorded_class_names(content: dict[str, Any], state: dict[str, Tensor]) -> list[str]:
    args = content.get("args")
    recorded = args.get("class_names") if isinstance(args, dict) else getattr(args, "class_names", None)
    if isinstance(recorded, list) and all(isinstance(name, str) for name in recorded):
        return recorded
    published = upstream.coco_class_names()
    head = state.get("class_embed.bias")
    return published if head is not None and len(head) == len(published) else []
