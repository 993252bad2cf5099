"""Why a branch for CUDA cannot be rehearsed here, or need not be.

Patterns of `path:function:text`, so that lines may move; the first that fits counts.
"""

_COMPILED = "of compiled losses, which upstream's own training switches on, and this package does not"

REASONS = {
    "rfdetr/models/criterion.py:*:or logits.device.type != *": _COMPILED,
    "rfdetr/models/criterion.py:*:or boxes.device.type != *": _COMPILED,
    "rfdetr/models/matcher.py:*:if combined_cost_matrix.is_cuda:": "of masks, which this package does not train",
}
