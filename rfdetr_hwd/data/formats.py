"""The formats of a dataset."""

from typing import Literal

Format = Literal["coco", "roboflow", "yolo", "webdataset", "voc"]
