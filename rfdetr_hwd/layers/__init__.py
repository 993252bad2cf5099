"""Stride-2 downsampling layers. Torch only."""
