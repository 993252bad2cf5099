"""The artefacts that `benchmark model` measures, their images and their AP."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rfdetr_hwd.console import say
from rfdetr_hwd.errors import ConfigError, UserError

if TYPE_CHECKING:
    import torch

    from rfdetr_hwd.data.annotations import DetectionData
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.export.artefact import Artefact

_NUM_FILES = 32
"""Image files that the end-to-end times go through."""
_NUM_VERIFIED = 2
"""Images that the parity of what is shipped is verified on."""
_SYNTHETIC = (640, 480)


class Artefacts:
    """Opens what the user names.

    Args:
        overrides: `key=value` assignments on the configuration of each run.
        images: An image or a directory for the end-to-end times; `None`: the validation split of the first run.
        device: Device of the models in torch.
        scratch: A directory for files.
    """

    def __init__(self, overrides: Sequence[str], images: Path | None, device: "torch.device", scratch: Path) -> None:
        self.overrides, self.images, self.device, self.scratch = overrides, images, device, scratch
        self.detectors: dict[str, Detector] = {}

    def load(self, path: Path) -> None:
        """Load the model of a run or a checkpoint; a graph waits.

        Raises:
            ConfigError: There is no such file or directory.
            CheckpointError: It is neither a run nor a checkpoint nor a graph.
        """
        from rfdetr_hwd.detector import Detector
        from rfdetr_hwd.export.artefact import SUFFIXES

        if not path.exists():
            raise ConfigError(f"--weights {path}: there is no such file or directory")
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            return
        detector = Detector.load(path, overrides=self.overrides)
        detector.device = self.device
        detector.network.to(self.device)
        self.detectors[str(path)] = detector

    def open(self, path: Path, files: Sequence[Path], graphs: bool) -> "list[Artefact]":
        """Return the artefacts of a run, a checkpoint or a graph; see `open_detector`."""
        from rfdetr_hwd.export.artefact import open_detector, open_graph
        from rfdetr_hwd.export.export import sample_images

        if (detector := self.detectors.get(str(path))) is None:
            return [open_graph(path)]
        folder = self.scratch / f"artefacts-{len(list(self.scratch.iterdir()))}"
        folder.mkdir()
        sample = sample_images(detector, files[0])
        return open_detector(detector, str(path), sample, folder, graphs)

    def files(self) -> tuple[list[Path], str]:
        """Return image files for the end-to-end times, and what they are."""
        from rfdetr_hwd.prediction.sources import find_sources

        if self.images is not None:
            sources = find_sources([str(self.images)], self.scratch)
            found = [Path(source.address) for source in sources if source.kind == "image"][:_NUM_FILES]
            return found, f"{len(found)} files of {self.images}"
        detector, reason = next(iter(self.detectors.values()), None), "no run is given"
        if detector is not None:
            try:
                data = _read_validation(detector)
            except UserError as error:
                reason = str(error)
            else:
                if not data.is_stored:
                    found = [data.path(row) for row in range(min(_NUM_FILES, len(data)))]
                    return found, f"{len(found)} files of {data.images}"
                reason = f"the images of {data.images} are in archives"
        say(f"end to end on synthetic images: {reason}. Give --images DIRECTORY for real ones")
        return _write_synthetic(self.scratch / "synthetic"), "synthetic noise of {} x {}".format(*_SYNTHETIC)

    def with_ap(self, artefacts: "Sequence[Artefact]") -> "list[Artefact]":
        """Return the artefacts with their AP, evaluated in their own runtime on the validation split of their run."""
        from rfdetr_hwd.export.artefact import evaluate_artefact

        measured = []
        for one in artefacts:
            detector = self.detectors.get(one.source) or self._same_weights(one)
            if detector is None:
                say(f"{one.source}: no AP, because the run that it was exported from is not among --weights")
                measured.append(one)
                continue
            say(f"evaluating {one.source}, {one.form}")
            measured.append(replace(one, ap=evaluate_artefact(one, detector, _read_validation(detector))["AP"]))
        return measured

    def _same_weights(self, graph: "Artefact") -> "Detector | None":
        """Return the model that a graph was exported from."""
        same = (d for d in self.detectors.values() if d.checkpoint.weights_sha256(d.weights) == graph.weights_sha256)
        return next(same, None)


def _read_validation(detector: "Detector") -> "DetectionData":
    from rfdetr_hwd.training.validation_split import read_validation

    return read_validation(detector.config.data, detector.checkpoint)


def _write_synthetic(folder: Path) -> list[Path]:
    """Write a few JPEG files of smooth noise."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(4)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8))
        coarse.resize(_SYNTHETIC, Image.Resampling.BICUBIC).save(path, quality=90)
    return paths
