"""The one precision decision: every forward pass of the package runs under `amp_context(args)`.

No other file names autocast or TF32, so training and evaluation cannot disagree about them.
"""

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_IEEE = "ieee"


class HasAmp(Protocol):
    """Anything with a boolean `amp`: a configuration, a namespace, a dataclass."""

    @property
    def amp(self) -> bool: ...


def amp_context(args: HasAmp) -> torch.autocast:
    """Return the mixed-precision context of a forward pass: device type `"cuda"` and bfloat16, always.

    It is enabled when `args.amp` is true and a CUDA device is present. Without a device it is disabled, with one log
    line. On a GPU that only emulates bfloat16 (compute capability below 8.0) there is one warning. Float32 operators
    stay IEEE float32, in the backward pass too: see `use_ieee_float32`.

    Args:
        args: Anything with a boolean attribute `amp`.

    Returns:
        A context manager, to be entered around the model's forward pass and nothing else.

    Raises:
        TypeError: `args.amp` is not a boolean.

    Example:
        >>> from types import SimpleNamespace
        >>> amp_context(SimpleNamespace(amp=False)).fast_dtype
        torch.bfloat16
    """
    if not isinstance(args.amp, bool):
        raise TypeError(f"amp must be true or false, not {args.amp!r}")
    use_ieee_float32()
    return torch.autocast("cuda", enabled=args.amp and _cuda_runs_bfloat16(), dtype=torch.bfloat16)


def use_ieee_float32() -> None:
    """Stop float32 operators of this process from rounding their inputs: to TF32 on a GPU, to bfloat16 on a CPU.

    Torch rounds to TF32 in convolutions unless it is told otherwise, and an import of `rfdetr` switches it on in matrix
    products as well, so by default "float32" has ten bits of mantissa.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False  # the older switch: torch complains where the two disagree
    for backend in (torch.backends.cudnn, torch.backends.mkldnn):
        backend.conv.fp32_precision = _IEEE  # set, so that `torch.backends.fp32_precision` does not decide


def describe_precision(args: HasAmp, device: torch.device) -> dict[str, str]:
    """Return how a forward pass computes on a device, as torch's switches say while one is prepared.

    Args:
        args: Anything with a boolean attribute `amp`.
        device: Where the model is.

    Returns:
        `precision`: `bfloat16 mixed` or `float32`; `float32_matmul` and `float32_conv`: `ieee`, or the type that the
        operators round their inputs to.
    """
    with amp_context(args):
        is_mixed = device.type == "cuda" and torch.is_autocast_enabled("cuda")
    backends: Any = torch.backends
    matmul, conv = (
        (backends.cuda.matmul, backends.cudnn.conv)
        if device.type == "cuda"
        else (backends.mkldnn.matmul, backends.mkldnn.conv)
    )
    return {
        "precision": "bfloat16 mixed" if is_mixed else "float32",
        "float32_matmul": matmul.fp32_precision,
        "float32_conv": conv.fp32_precision,
    }


def forward_in_amp(model: Callable[[Tensor], Any], images: Tensor, args: HasAmp) -> Any:
    """Run a model under `amp_context(args)` and return its outputs in float32.

    Args:
        model: Called with the batch.
        images: Batch of shape (N, 3, H, W).
        args: Anything with a boolean attribute `amp`.

    Returns:
        The model's output, every floating-point tensor in it cast to float32. Losses, sigmoid and box decoding
        therefore run in float32: bfloat16 has 128 distinct scores in [0.5, 1), and ties reorder AP.
    """
    with amp_context(args):
        outputs = model(images)
    return _to_float32(outputs)


def full_precision(device_type: str) -> torch.autocast:
    """Return a context in which mixed precision is off, for the few operators that must run in full precision.

    Disabling it does not cast: the caller casts the inputs.

    Args:
        device_type: Device type of the tensors involved, `"cuda"` or `"cpu"`.
    """
    return torch.autocast(device_type, enabled=False)


def _cuda_runs_bfloat16() -> bool:
    if not torch.cuda.is_available():
        _say_once(logging.INFO, "mixed precision is off: this machine has no CUDA device")
        return False
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        _say_once(
            logging.WARNING, "this GPU emulates bfloat16, which is slow: set amp=false, or use compute capability 8.0+"
        )
    return True


@functools.cache
def _say_once(level: int, message: str) -> None:
    logger.log(level, message)


def _to_float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _to_float32(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_float32(item) for item in value)
    return value
