"""Quantize a written graph, evaluate it in its own runtime, and keep it only if it loses little AP."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from rfdetr_hwd.console import digits, print_table, say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import explaining, writing
from rfdetr_hwd.export.ap_gate import ApLoss
from rfdetr_hwd.export.artefact import SUFFIXES, Artefact, evaluate_artefact, open_graph
from rfdetr_hwd.export.calibration import read_calibration
from rfdetr_hwd.export.formats import move_graph
from rfdetr_hwd.export.metadata import describe_graph
from rfdetr_hwd.export.quantization import Quantization
from rfdetr_hwd.export.quantize import QuantizationError, quantize_graph
from rfdetr_hwd.export.runtimes import RUNTIMES
from rfdetr_hwd.export.speed import measure_latencies
from rfdetr_hwd.model.release import BatchSize

_ROUNDS = 30


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
    format = SUFFIXES[graph.suffix.lower()]
    before = open_graph(graph)
    say(f"evaluating the {format} graph in {before.precision}")
    metrics = evaluate_artefact(before, detector, validation)

    # Quantize. What is evaluated is the file itself, opened in its own runtime
    facts = describe_graph(detector, BatchSize(before.batch or 1, is_dynamic=before.batch is None))
    images = None
    if train is not None:
        images = read_calibration(detector, train, settings.num_images, settings.seed, before.batch or 1)
        settings = replace(settings, num_images=len(images.images.image_ids))
        say(f"calibrating {settings.precision} on {settings.num_images} images of {train.name}, seed {settings.seed}")
    quantized = quantize_graph(format, settings.precision, graph, images)
    facts |= settings.describe()
    RUNTIMES[format].note(quantized, facts)
    after = open_graph(quantized)
    say(f"evaluating the {format} graph in {after.precision}")
    with explaining(Exception, f"the quantized graph does not run in {RUNTIMES[format].package}", QuantizationError):
        loss = ApLoss(metrics, evaluate_artefact(after, detector, validation))

    # Report, and refuse too large a loss
    both = [replace(one, ap=of["AP"]) for one, of in ((before, loss.before), (after, loss.after))]
    loss.print(settings.precision)
    _print_costs(both, f"{format}, on {len(validation)} images of {validation.name}")
    loss.check(settings)

    # Record the AP in the file, and move it to its place
    measured = {
        "ap_before": digits(both[0].ap, 6),
        "ap_after": digits(both[1].ap, 6),
        "ap_images": str(len(validation)),
    }
    RUNTIMES[format].note(quantized, {**facts, **measured})
    with writing("--out", out):
        move_graph(format, quantized, out)


def _print_costs(artefacts: Sequence[Artefact], about: str) -> None:
    """Print AP, latency and size of the graphs."""
    times = measure_latencies(artefacts, _ROUNDS)
    rows = [
        (
            *(one.precision, digits(one.ap), f"{time.median:.1f} ({time.p95:.1f})"),
            *(one.batch or 1, f"{one.size / 1e6:.1f} MB"),
        )
        for one, time in zip(artefacts, times, strict=True)
    ]
    print_table(about, ("precision", "AP", "ms", "images in a pass", "file"), rows)
    say(f"ms: median of {_ROUNDS} passes in turns (p95), the model alone, CPU threads: {torch.get_num_threads()}")
