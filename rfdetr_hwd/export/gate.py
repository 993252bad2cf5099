"""Evaluate an exported file in its own runtime, and keep it only if it loses little AP."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rfdetr_hwd.console import digits, print_table, say
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.detector import Detector
from rfdetr_hwd.errors import explaining, writing
from rfdetr_hwd.export.ap_gate import ApLoss
from rfdetr_hwd.export.artefact import Artefact, ArtefactError, evaluate_artefact, open_graph
from rfdetr_hwd.export.formats import move_graph
from rfdetr_hwd.export.quantization import Quantization
from rfdetr_hwd.export.runtimes import RUNTIMES
from rfdetr_hwd.export.speed import find_device, measure_latencies
from rfdetr_hwd.runtime.environment import describe_machine

_ROUNDS = 30


@dataclass(frozen=True)
class Gate:
    """What an exported file has to pass.

    Attributes:
        detector: The trained model.
        validation: Images to evaluate on.
        before: The model in float32 that the file is made from.
        metrics: Its COCO metrics.
    """

    detector: Detector
    validation: DetectionData
    before: Artefact
    metrics: Mapping[str, float | None]

    @classmethod
    def build(cls, detector: Detector, validation: DetectionData, before: Artefact) -> "Gate":
        """Evaluate the model that a file is made from.

        Raises:
            UserError: There are no images or objects.
        """
        say(f"evaluating {before.form} in {before.precision}")
        return cls(detector, validation, before, evaluate_artefact(before, detector, validation))

    def let_through(self, file: Path, out: Path, settings: Quantization) -> None:
        """Compare a file with the model that it was made from, and write it unless it loses too much AP.

        Args:
            file: The exported file with its metadata, in a directory for temporary files.
            out: Where to write it. Nothing is written if it loses too much AP.
            settings: The limit, and what the file is.

        Raises:
            ApLossError: It loses more AP than `settings.max_ap_loss`.
            UserError: It does not run, or cannot be written.
        """
        runtime = RUNTIMES[settings.format]
        runtime.note(file, settings.describe())
        after = open_graph(file)
        say(f"evaluating {after.form} in {after.precision}")
        with explaining(Exception, f"the exported file does not run in {runtime.package}", ArtefactError):
            loss = ApLoss(self.metrics, evaluate_artefact(after, self.detector, self.validation))

        # Report, and refuse too large a loss
        ap = {"ap_before": digits(loss.before["AP"], 6), "ap_after": digits(loss.after["AP"], 6)}
        loss.print(settings.name)
        self._print_costs(replace(after, ap=loss.after["AP"]), settings.name)
        loss.check(settings)

        # Record the AP in the file, and move it to its place
        runtime.note(file, {**ap, "ap_images": str(len(self.validation))})
        with writing("--out", out):
            move_graph(settings.format, file, out)

    def _print_costs(self, after: Artefact, name: str) -> None:
        """Print AP, latency and size of both."""
        both = [replace(self.before, ap=self.metrics["AP"]), after]
        times = measure_latencies(both, _ROUNDS)
        rows = [
            (
                *(of, digits(one.ap), f"{time.median:.1f} ({time.p95:.1f})"),
                *(one.batch or 1, f"{one.size / 1e6:.1f} MB"),
            )
            for of, one, time in zip(("float32", name), both, times, strict=True)
        ]
        about = f"{after.form}, on {len(self.validation)} images of {self.validation.name}"
        print_table(about, ("precision", "AP", "ms", "images in a pass", "file"), rows)
        machine = describe_machine(find_device(both))
        say(f"ms: median of {_ROUNDS} passes in turns (p95), the model alone, {machine}")
