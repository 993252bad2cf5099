"""Quantize a written graph, and let it through the gate."""

from dataclasses import replace
from pathlib import Path

from rfdetr_hwd.console import say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.export.artefact import open_graph
from rfdetr_hwd.export.calibration import read_calibration
from rfdetr_hwd.export.gate import Gate
from rfdetr_hwd.export.metadata import describe_graph
from rfdetr_hwd.export.quantization import Quantization
from rfdetr_hwd.export.quantize import quantize_graph
from rfdetr_hwd.export.runtimes import RUNTIMES
from rfdetr_hwd.model.release import BatchSize


def export_quantized(
    detector: Detector,
    graph: Path,
    out: Path,
    settings: Quantization,
    train: DetectionData | None,
    validation: DetectionData,
) -> None:
    """Quantize a graph, compare it with the graph, and write it unless it loses too much AP.

    Args:
        detector: The trained model that the graph was exported from.
        graph: The float32 graph, in a directory for temporary files.
        out: The file to write. Nothing is written if the graph loses too much AP.
        settings: Precision, calibration and gate.
        train: Images to calibrate int8 on; `None` for float16.
        validation: Images to evaluate on.

    Raises:
        ApLossError: It loses more AP than `settings.max_ap_loss`.
        UserError: There are no images or objects, or the graph cannot be quantized.
    """
    before = open_graph(graph)
    gate = Gate.build(detector, validation, before)
    images = None
    if train is not None:
        images = read_calibration(detector, train, settings.num_images, settings.seed, before.batch or 1)
        settings = replace(settings, num_images=len(images.images.image_ids))
        say(f"calibrating {settings.precision} on {settings.num_images} images of {train.name}, seed {settings.seed}")
    quantized = quantize_graph(settings, graph, images)
    facts = describe_graph(detector, BatchSize(before.batch or 1, is_dynamic=before.batch is None))
    RUNTIMES[settings.format].note(quantized, facts)
    gate.let_through(quantized, out, settings)
