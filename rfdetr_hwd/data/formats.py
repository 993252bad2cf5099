"""Choices about datasets, which options and readers share. This module does not import torch."""

from typing import Literal

Format = Literal["coco", "roboflow", "yolo", "webdataset", "voc"]
"""Formats that are read."""
Target = Literal["coco", "yolo"]
"""Formats that are written."""
Exif = Literal["auto", "apply", "ignore"]
"""Whether images are turned upright as their EXIF orientation says; `auto`: unless they are annotated as stored."""
