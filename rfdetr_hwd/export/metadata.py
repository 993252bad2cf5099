"""The metadata of a graph: class names, preprocessing of its inputs, and meaning of its outputs."""

import json

from rfdetr_hwd.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.model.release import BatchSize
from rfdetr_hwd.runtime.environment import describe_environment

_RESIZING = {
    "stretch": "resize to resolution x resolution",
    "letterbox": "resize by resolution / max(height, width), pad at the right and bottom with the mean to "
    "resolution x resolution",
}


def describe_graph(detector: Detector, size: BatchSize) -> dict[str, str]:
    """Return the facts that a program needs to use a graph without this package; lists are JSON.

    They are in the `metadata_props` of an ONNX file, and in OpenVINO's `rt_info` under `model_info`.
    """
    config, environment = detector.config, describe_environment()
    stock = detector.model.stock
    resize, bit_depth = detector.model.resize, detector.options.bit_depth
    turned = "as stored, without the EXIF orientation" if detector.options.exif == "ignore" else "upright"
    return {
        "model": f"RF-DETR {config.model.variant}, levels {'+'.join(stock.levels)}",
        "downsampler": f"{config.downsample.name} at the {config.downsample.site}, folded",
        "class_names": json.dumps(list(detector.class_names)),
        "resolution": str(detector.resolution),
        "batch": "any" if size.is_dynamic else str(size.images),
        "resize": resize,
        "mean": json.dumps(IMAGENET_MEAN),
        "std": json.dumps(IMAGENET_STD),
        "bit_depth": str(bit_depth),
        "preprocessing": f"more than 8 bits a channel: min(255, floor(value * 255 / {(1 << bit_depth) - 1})); RGB, "
        f"{turned}; {_RESIZING[resize]}; bilinear, antialiased (Pillow's BILINEAR); divide by 255, subtract mean, "
        "divide by std",
        "box_format": "cxcywh",
        "box_scale": "fractions of the square",
        "scores": "sigmoid of labels; the last class is unused",
        "num_select": str(stock.config.num_select),
        "weights": f"{detector.weights} of step {detector.checkpoint.step}",
        "weights_sha256": detector.checkpoint.weights_sha256(detector.weights),
        "rfdetr_hwd_version": str(environment["rfdetr_hwd"]),
        "rfdetr_version": str(environment["packages"]["rfdetr"]),
    }
