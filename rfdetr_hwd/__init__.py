"""Train RF-DETR with wavelet downsampling, ship stock RF-DETR.

The public names are loaded when they are first used, so importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rfdetr_hwd.amp import amp_context as amp_context
    from rfdetr_hwd.api import Run as Run
    from rfdetr_hwd.api import compare as compare
    from rfdetr_hwd.api import evaluate as evaluate
    from rfdetr_hwd.api import train as train
    from rfdetr_hwd.config.load import load_config as load_config
    from rfdetr_hwd.config.schema import Config as Config
    from rfdetr_hwd.detector import Detector as Detector
    from rfdetr_hwd.layers.hwd import HWD as HWD
    from rfdetr_hwd.layers.registry import register_downsample as register_downsample

_HOME = {
    "amp_context": "amp",
    "Run": "api",
    "compare": "api",
    "evaluate": "api",
    "train": "api",
    "load_config": "config.load",
    "Config": "config.schema",
    "Detector": "detector",
    "HWD": "layers.hwd",
    "register_downsample": "layers.registry",
}

__all__ = [
    "HWD",
    "Config",
    "Detector",
    "Run",
    "__version__",
    "amp_context",
    "compare",
    "evaluate",
    "load_config",
    "register_downsample",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
