"""Why a branch for CUDA cannot be rehearsed here, or need not be.

Patterns of `path:function:text`; the first that fits counts.
"""

REASONS = {
    "rfdetr_hwd/amp.py:*:def *": "run",
}
