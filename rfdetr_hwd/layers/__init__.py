"""Stride-2 downsampling layers. Torch and PyWavelets only; importing the package registers them."""

from rfdetr_hwd.layers import hwd, linear, nonlinear

__all__ = ["hwd", "linear", "nonlinear"]
