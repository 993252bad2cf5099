"""`rfdetr-hwd data audit`: likely label errors of a dataset, from a trained run's detections."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rfdetr_hwd.cli.data.folds import detect_in_folds, prepare_folds, train_folds
from rfdetr_hwd.cli.data.judging import judge
from rfdetr_hwd.cli.evaluate import default_directory
from rfdetr_hwd.cli.options import Overrides, WeightsKind
from rfdetr_hwd.console import print_table, say
from rfdetr_hwd.data.roles import ROLES, Role
from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.files import check_directory

if TYPE_CHECKING:
    import torch

    from rfdetr_hwd.data.layout import Layout
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.report.audit import AuditedSplit, AuditInputs


def audit(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run directory (its best checkpoint) or checkpoint directory.")
    ],
    overrides: Overrides = None,
    split: Annotated[Literal["all", Role], typer.Option(help="Split to audit.")] = "all",
    threshold: Annotated[
        float | None,
        typer.Option(help="Confidence threshold.", min=0.01, max=1, show_default="that of the checkpoint, or 0.5"),
    ] = None,
    limit: Annotated[int, typer.Option(help="Suggestions with a picture on the page.", min=1, max=1000)] = 50,
    which: WeightsKind = "auto",
    folds: Annotated[
        int | None,
        typer.Option(
            help="Train this many runs, each without another part of the training images, and let it judge that part.",
            min=2,
            max=100,
            show_default="no training",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Folds to train at once.", min=1)] = 1,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory for the page, COCO files and folds.", show_default="audit in the run directory"),
    ] = None,
) -> None:
    """Find likely label errors with a trained run.

    Suggests objects that were overlooked, swapped classes, badly placed boxes and duplicates, the most likely first.
    Also lists objects that are too small for the model, and differences between the splits. With --folds, each training
    image is judged by a run that was not trained on it. Finished folds are not trained again, and stopped ones resume.
    """
    from rfdetr_hwd.checkpoint.data_root import locate_data
    from rfdetr_hwd.data.detect import find_data
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.report.audit import audit as audit_splits
    from rfdetr_hwd.report.audit import lead, overview
    from rfdetr_hwd.report.audit_files import PAGE, write_audit
    from rfdetr_hwd.runtime import distributed
    from rfdetr_hwd.runtime.process_group import process_group

    # Check the options
    if folds is None and workers > 1:
        raise ConfigError("--workers goes with --folds")
    if folds is not None and split not in ("all", "train"):
        raise ConfigError(f"--folds judges training images: it goes with --split train or all, not {split}")
    directory = out or default_directory(run, "audit")
    check_directory("--out", directory)
    # Train the folds
    trained = None
    if folds is not None:
        trained = prepare_folds(run, overrides or [], folds, directory)
        train_folds(trained, workers)
    with process_group() as device:
        # Detect in every split
        detector = Detector.load(run, which, overrides or [])
        layout = find_data(locate_data(detector.config.data, detector.checkpoint.run))
        splits = [] if trained is None else [detect_in_folds(trained, which, device)]
        splits += _detect(detector, layout, _choose_roles(detector, layout, split, trained is not None), device)
        if not distributed.is_main():
            return

        # Audit, write, and print
        inputs = _describe(detector, layout, splits, detector.threshold if threshold is None else threshold)
        found = audit_splits(inputs)
        files = write_audit(inputs, found, limit, directory)
        print_table("suggested label errors", *overview(inputs, found))
        for sentence in lead(inputs, found):
            say(sentence)
        say(f"page: {directory / PAGE}\nsuggestions: {', '.join(map(str, files))}")


def _choose_roles(
    detector: "Detector", layout: "Layout", wanted: Literal["all", Role], has_folds: bool
) -> Sequence[Role]:
    """Return the splits that the run judges: those that are wanted, or there. Folds judge all training images."""
    if wanted != "all":
        return () if has_folds else (wanted,)
    held_out: set[Role] = {"val"} if detector.config.data.val_fraction is not None else set()
    there = held_out | {split.role for split in layout.splits() if split.role is not None}
    judged: set[Role] = {"train", *held_out} if has_folds else set()
    return [role for role in ROLES if role in there - judged]


def _detect(
    detector: "Detector", layout: "Layout", roles: Sequence[Role], device: "torch.device"
) -> "Iterator[AuditedSplit]":
    """Yield splits as the training would read them, with the detections of the run in them."""
    from rfdetr_hwd.report.audit import AuditedSplit
    from rfdetr_hwd.runtime import distributed
    from rfdetr_hwd.training.validation_split import read_as_trained

    settings = detector.config
    for role in roles:
        data = read_as_trained(settings.data, detector.checkpoint, layout, role)
        if distributed.is_main():
            unknown = data.map_classes(detector.class_names).only_dataset
            say(f"{role}: detecting in {len(data)} images ...")
            if unknown:
                say(f"{role}: classes that the model lacks, whose annotations are not doubted: {', '.join(unknown)}")
        # Any split may be named as the one to judge, by data.val=NAME
        has_trained = role == "train" or data.fingerprint == detector.checkpoint.record.training_data.sha256
        made, detections = judge(detector, data, settings, device, "the run", has_trained)
        yield AuditedSplit(role, data, detections, [made])


def _describe(detector: "Detector", layout: "Layout", splits: "list[AuditedSplit]", threshold: float) -> "AuditInputs":
    from rfdetr_hwd.report.audit import AuditInputs

    return AuditInputs(
        splits=splits,
        class_names=detector.class_names,
        threshold=threshold,
        resolution=detector.resolution,
        keeps_aspect=detector.model.resize == "letterbox",
        protocol={"data": str(layout.root.resolve()), **detector.describe(), "threshold": threshold},
    )
