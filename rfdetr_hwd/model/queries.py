"""Give a model the queries of weights that have fewer or more of them, or other numbers of query groups (Group DETR).

A group is a full set of queries for an image, with four small heads that propose boxes for them. Groups are
trained side by side, each matched to all objects; evaluation uses the first. Known queries and groups keep their
places. Surplus ones are dropped. Missing ones start like this:

- A query of a known group is drawn at random, as RF-DETR draws it. Its detections depend on its proposal, so its start
matters little: a model that was trained on the built-in dataset with 30 queries (AP 0.172) had an AP of 0.182 with 30
random ones added, and of 0.181 with 30 copies (2026-11-26).
- An added group has copies of the heads of known groups, in turn, and random queries. Random heads would propose boxes
at random, and their loss would disturb the encoder, which all groups share. Copied queries would keep the group a copy
for ever, because equal groups take equal steps.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

QUERY_KEYS = ("refpoint_embed.weight", "query_feat.weight")
"""The queries of all groups, (groups * queries, D), one group after the other."""
ADDED_HEAD = "heads of an added query group, copied from an existing one"
_HEAD = re.compile(r"(transformer\.enc_out(?:put|put_norm|_bbox_embed|_class_embed)\.)(\d+)(\..*)")


def head_group(key: str) -> int | None:
    """Return the query group whose head a tensor belongs to; `None` for any other tensor."""
    match = _HEAD.fullmatch(key)
    return int(match[2]) if match else None


def count_groups(keys: Iterable[str]) -> int:
    """Return the number of query groups, as far as they have heads; else 1."""
    return 1 + max((group for key in keys if (group := head_group(key)) is not None), default=0)


@dataclass(frozen=True)
class QueryMap:
    """From the queries of some weights to those of a model.

    Attributes:
        old_groups: Query groups of the weights.
        groups: Query groups of the model.
        queries: Queries of a group of the model.
    """

    old_groups: int
    groups: int
    queries: int

    def source_key(self, key: str) -> str:
        """Return the key in the source that a tensor of the model starts from."""
        match = _HEAD.fullmatch(key)
        return f"{match[1]}{int(match[2]) % self.old_groups}{match[3]}" if match else key

    def fits(self, old: Tensor, fresh: Tensor) -> bool:
        """Return whether the queries of the weights are equal groups, of the model's width."""
        return old.shape[1:] == fresh.shape[1:] and len(old) % self.old_groups == 0

    def fill(self, old: Tensor, fresh: Tensor) -> tuple[Tensor, str]:
        """Return the queries of the model, (groups * queries, D), and a description of the changes.

        Args:
            old: Queries of the weights, which `fits`.
            fresh: Queries of the model as built.
        """
        known = old.unflatten(0, (self.old_groups, -1))[: self.groups, : self.queries]  # (groups, queries, D)
        value = fresh.clone().unflatten(0, (self.groups, self.queries))
        value[: known.shape[0], : known.shape[1]] = known
        return value.flatten(0, 1), "; ".join(self._changes(len(old) // self.old_groups))

    def _changes(self, old_queries: int) -> list[str]:
        """Return the changes to the number of queries and to the number of groups."""
        pairs = (("queries", old_queries, self.queries), ("query groups", self.old_groups, self.groups))
        return [
            f"{what} reduced from {old} to {new}"
            if new < old
            else f"{what} increased from {old} to {new}, the added ones randomly initialized"
            for what, old, new in pairs
            if new != old
        ]
