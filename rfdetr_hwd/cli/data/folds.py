"""The folds of `rfdetr-hwd data audit`: train a run for each part of the training images, and detect in that part."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rfdetr_hwd.cli.data.judging import judge
from rfdetr_hwd.cli.experiment import find_devices
from rfdetr_hwd.console import digits, say
from rfdetr_hwd.errors import ConfigError, UserError

if TYPE_CHECKING:
    import torch

    from rfdetr_hwd.config.folds import Fold
    from rfdetr_hwd.data.annotations import DetectionData
    from rfdetr_hwd.data.holdout import HeldOut
    from rfdetr_hwd.report.audit import AuditedSplit


class CrossValidationError(UserError):
    """Folds that cannot be made, or are not trained."""


@dataclass(frozen=True)
class Folds:
    """Runs that each hold out another part of the training images.

    Attributes:
        runs: The runs.
        data: All training images.
    """

    runs: "Sequence[Fold]"
    data: "DetectionData"

    def held_out(self, fold: "Fold") -> "HeldOut":
        """Return which images a fold holds out.

        Raises:
            CrossValidationError: It was trained on other annotations.
        """
        from rfdetr_hwd.checkpoint.record import find_checkpoint

        held_out = find_checkpoint(fold.path).record.held_out
        if held_out is None or held_out.sha256 != self.data.fingerprint:
            raise CrossValidationError(
                f"{fold.path} was trained on other images or annotations than those of {self.data.images}. Choose "
                "another --out to train the folds again"
            )
        return held_out


def prepare_folds(run: Path, overrides: Sequence[str], number: int, directory: Path) -> Folds:
    """Plan the folds of a run, and check that they can be trained. Nothing is written yet.

    Args:
        run: The run, whose configuration the folds have.
        overrides: `key=value` assignments to data, evaluation and precision.
        number: Number of folds.
        directory: Directory of their run directories.

    Raises:
        UserError: The training images cannot be read or divided, or a fold has another configuration.
    """
    from rfdetr_hwd.checkpoint.data_root import locate_data
    from rfdetr_hwd.checkpoint.record import find_checkpoint, read_record
    from rfdetr_hwd.checkpoint.run_folder import RunFolder
    from rfdetr_hwd.comparison.status import status_of
    from rfdetr_hwd.config.folds import plan_folds
    from rfdetr_hwd.data.detect import find_data, read_options
    from rfdetr_hwd.data.read import read_split
    from rfdetr_hwd.runtime.launch import find_place
    from rfdetr_hwd.training.first_weights import check_first_weights

    if find_place() is not None:
        raise ConfigError("--folds: start it without torchrun. Each fold is trained in a process of its own")
    # Plan
    checkpoint = find_checkpoint(run)
    config, class_names = read_record(checkpoint, overrides)
    settings = locate_data(config.data, checkpoint.run)
    runs = plan_folds(config.model_copy(update={"data": settings}), number, directory)
    statuses = {fold.name: status_of(fold) for fold in runs}
    # Check the data
    data = read_split(find_data(settings).split("train"), settings.allow, read_options(settings))
    if data.class_names != class_names:
        raise CrossValidationError(
            f"--folds: {run} has other classes than {data.images}. Train a new run on this dataset"
        )
    folds = Folds(runs, data)
    if "new" in statuses.values():
        check_first_weights(config.model)
        _check_division(data, runs)
    for fold in runs:
        if RunFolder(fold.path).has_checkpoints():
            folds.held_out(fold)
    # Say what it takes
    counts = ", ".join(f"{list(statuses.values()).count(status)} {status}" for status in ("new", "started", "finished"))
    say(
        f"folds: {number} runs of {config.train.epochs} epochs, each on about {round(len(data) * (1 - 1 / number)):,} "
        f"of {len(data):,} training images, in {directory}: {counts}"
    )
    return folds


def _check_division(data: "DetectionData", runs: "Sequence[Fold]") -> None:
    """Refuse a division in which a fold has nothing to train on, or nothing to judge."""
    from rfdetr_hwd.data.findings import DatasetError
    from rfdetr_hwd.data.holdout import divide_equally, part_held_out
    from rfdetr_hwd.training.validation_split import watch_comparison

    fraction, seed = runs[0].config.data.val_fraction or 0.0, runs[0].config.data.val_seed
    say(f"folds: comparing {len(data)} images, to keep near-duplicates in one part ...")
    try:
        for held_out in divide_equally(data, fraction, seed, watch_comparison(data)):
            part_held_out(data, held_out)
    except DatasetError as error:
        raise CrossValidationError(f"--folds {len(runs)}: {error}") from None


def train_folds(folds: Folds, workers: int) -> None:
    """Train the folds that are not finished, or resume them.

    Args:
        folds: The folds.
        workers: Folds to train at once.

    Raises:
        CrossValidationError: Some are not finished.
        Interrupted: The process was asked to stop. The folds have saved their state.
    """
    from rfdetr_hwd.comparison.status import log_file, status_of
    from rfdetr_hwd.comparison.training import train_runs

    left = [fold for fold in folds.runs if status_of(fold) != "finished"]
    outcomes = train_runs(left, workers, find_devices(workers), say) if left else []
    unfinished = [outcome for outcome in outcomes if outcome.result != "finished"]
    if unfinished:
        first = unfinished[0]
        state = f"{first.result}{first.reason and f', {first.reason}'}, see {log_file(first.run)}"
        if first.result == "elsewhere":
            state = "it is trained by another process"
        raise CrossValidationError(
            f"{len(unfinished)} of {len(folds.runs)} folds are not finished. {first.run.name}: {state}. Repeat the "
            "command to resume them"
        )


def detect_in_folds(folds: Folds, which: Literal["auto", "ema", "raw"], device: "torch.device") -> "AuditedSplit":
    """Return the training images with the detections in them, each by the fold that held it out.

    Args:
        folds: The folds, all trained.
        which: Weights to use.
        device: Where to detect.
    """
    from rfdetr_hwd.data.holdout import part_held_out
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.report.audit import AuditedSplit
    from rfdetr_hwd.report.judges import join_judged

    judged = []
    for fold in folds.runs:
        _, part = part_held_out(folds.data, folds.held_out(fold))
        say(f"train: detecting in {len(part)} of {len(folds.data)} images with {fold.name} ...")
        detector = Detector.load(fold.path, which)
        made, detections = judge(detector, part, fold.config, device, fold.name, has_trained=False)
        say(f"{fold.name}: AP {digits(made.ap)}")
        judged.append((made, detections))
    return AuditedSplit("train", folds.data, join_judged(folds.data, judged), [one for one, _ in judged])
