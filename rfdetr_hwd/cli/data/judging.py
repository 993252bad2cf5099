"""Have a model judge images: detect in them, and say which model it was."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from rfdetr_hwd.config.schema import Config
    from rfdetr_hwd.data.annotations import DetectionData
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.evaluation.detections import Detections
    from rfdetr_hwd.report.judges import Judge


def judge(
    detector: "Detector",
    data: "DetectionData",
    settings: "Config",
    device: "torch.device",
    name: str,
    has_trained: bool,
) -> "tuple[Judge, Detections]":
    """Return a model as the judge of images, with its detections in them.

    Args:
        detector: The model.
        data: The images.
        settings: Settings of data, evaluation and precision.
        device: Where to detect.
        name: Name of the model.
        has_trained: Whether it was trained on the images.
    """
    from rfdetr_hwd.evaluation.measurement import Evaluation
    from rfdetr_hwd.report.judges import Judge

    evaluation = Evaluation.build(detector.model, data, settings, device)
    ap = evaluation.measure(detector.network)["AP"]
    checkpoint = detector.checkpoint
    made = Judge(name, str(checkpoint.path), detector.weights, checkpoint.step, has_trained, data.image_ids, ap)
    return made, evaluation.metric.detections
