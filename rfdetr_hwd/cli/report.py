"""`rfdetr-hwd report`: the report of a run's evaluation, or of anyone's COCO results file."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rfdetr_hwd.console import say
from rfdetr_hwd.errors import ConfigError, UserError
from rfdetr_hwd.files import check_directory

if TYPE_CHECKING:
    from rfdetr_hwd.data.annotations import DetectionData
    from rfdetr_hwd.report.evaluation_report import ReportInputs
    from rfdetr_hwd.report.training_curves import RunRecords

TagsFile = Annotated[
    Path | None, typer.Option(help="CSV file with the header file_name,TAG[,TAG...]: metrics by tag of the images.")
]


class ReportError(UserError):
    """There is nothing to report on."""


def report(
    source: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Run directory, or the directory of an evaluation.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Detections of any detector, in COCO's results format, instead of a run.")
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option(help="COCO annotation file that --predictions were made for.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Directory of the images.", show_default="as the annotations say")
    ] = None,
    tags: TagsFile = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of the report.", show_default="that of the evaluation; report with --predictions"),
    ] = None,
) -> None:
    """Report errors, thresholds and worst images.

    A run has an evaluation after training and after `evaluate`. The newest one is reported.
    """
    if (source is None) == (predictions is None):
        both = "give a run or evaluation directory, or --predictions FILE with --ground-truth FILE"
        raise ConfigError(both if source is None else f"{both}, not both")
    if (predictions is None) != (ground_truth is None):
        raise ConfigError("--predictions and --ground-truth go together")
    if images is not None and not images.is_dir():
        raise ConfigError(f"--images: there is no directory {images}")
    folder = _find_evaluation(source) if source is not None else Path("report")
    check_directory("--out", out or folder)
    if source is not None:
        inputs = _read_evaluation(folder, source, images, tags)
    elif predictions is not None and ground_truth is not None:
        inputs = _read_predictions(predictions, ground_truth, images, tags)
    say_tags(tags, inputs.data)
    write_report(inputs, out or folder)


def write_report(inputs: "ReportInputs", out: Path) -> None:
    """Write a report, and print its sentences and its path."""
    from rfdetr_hwd.report.evaluation_files import PAGE, write_evaluation_report

    for sentence in write_evaluation_report(inputs, out):
        say(sentence)
    say(f"report: {out / PAGE}")


def say_tags(path: Path | None, data: "DetectionData") -> None:
    """Check a file of tags, and say how many images and rows have no counterpart, on rank 0.

    Raises:
        TagsError: The file cannot be used.
    """
    from rfdetr_hwd.report.evaluation_report import check_tags
    from rfdetr_hwd.runtime import distributed

    tags = check_tags(path, data)
    if tags is not None and tags.gaps and distributed.is_main():
        say(f"--tags: {tags.gaps}")


def read_run(path: Path) -> "RunRecords | None":
    """Return what a run recorded; `None`: the directory is not one of a run."""
    from rfdetr_hwd.checkpoint.run_folder import RunFolder
    from rfdetr_hwd.files import UntrustedFileError, read_json_object, read_yaml
    from rfdetr_hwd.report.training_curves import RunRecords
    from rfdetr_hwd.training.trackers import read_metrics

    folder = RunFolder(path)
    if not folder.is_run:
        return None
    metrics, speed = (read_metrics(file) if file.is_file() else [] for file in (folder.metrics_file, folder.speed_file))
    try:
        starts = read_json_object(folder.log_file).get("starts", [])
    except (FileNotFoundError, UntrustedFileError):
        starts = []
    starts = [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []
    return RunRecords(metrics, speed, starts, read_yaml(folder.config_file))


def _find_evaluation(source: Path) -> Path:
    """Return the directory of the newest evaluation in a directory."""
    from rfdetr_hwd.evaluation.results import GROUND_TRUTH, METRICS, PREDICTIONS

    def is_whole(folder: Path) -> bool:
        return all((folder / name).is_file() for name in (GROUND_TRUTH, METRICS, PREDICTIONS))

    accepted = f"a run directory, or the directory of an evaluation ({PREDICTIONS}, {METRICS} and {GROUND_TRUTH})"
    if not source.is_dir():
        raise ReportError(f"{source} {'is a file' if source.exists() else 'does not exist'}: give {accepted}")
    found = [folder for folder in (source, *source.glob("*/")) if is_whole(folder)]
    if not found and (source / "config.yaml").is_file():
        raise ReportError(f"{source} has no evaluation yet. Make one with `rfdetr-hwd evaluate --weights {source}`")
    if not found:
        raise ReportError(f"{source} holds neither a run nor an evaluation: give {accepted}")
    return max(found, key=lambda folder: ((folder / METRICS).stat().st_mtime, folder))


def _read_evaluation(folder: Path, source: Path, images: Path | None, tags: Path | None) -> "ReportInputs":
    from rfdetr_hwd.checkpoint.data_root import locate_images
    from rfdetr_hwd.checkpoint.run_folder import RunFolder
    from rfdetr_hwd.data.coco.ground_truth import read_evaluated
    from rfdetr_hwd.data.images import ReadOptions
    from rfdetr_hwd.evaluation.results import GROUND_TRUTH, METRICS, PREDICTIONS, read_results
    from rfdetr_hwd.files import UntrustedFileError, read_json_object
    from rfdetr_hwd.report.evaluation_report import ReportInputs

    # Read the protocol and the annotations
    try:
        protocol = read_json_object(folder / METRICS)["protocol"]
        options = ReadOptions(protocol["bit_depth"], protocol["exif"])
        recorded, checkpoint = str(protocol["data"]), Path(protocol.get("checkpoint", folder))
    except (UntrustedFileError, KeyError, TypeError) as error:
        raise ReportError(f"{folder / METRICS} is not the file of an evaluation: {error}") from None

    # Find the run, and the images, which may have moved
    run = next((path for path in (source, folder.parent, checkpoint.parent.parent) if RunFolder(path).is_run), folder)
    places = [images] if images else locate_images(recorded, run)
    root = next((place for place in places if place.is_dir()), None)
    if root is None:
        say(f"the images are at none of {', '.join(map(str, places))}: no pictures. Give --images DIR")
    data = read_evaluated(folder / GROUND_TRUTH)
    data = replace(data, name=protocol.get("split", folder.name), images=root or places[0], options=options)
    return ReportInputs(
        data=data,
        detections=read_results(folder / PREDICTIONS, data.ground_truth()),
        protocol=protocol,
        run=read_run(run),
        tags=tags,
        has_images=root is not None,
    )


def _read_predictions(predictions: Path, ground_truth: Path, images: Path | None, tags: Path | None) -> "ReportInputs":
    from rfdetr_hwd.data.coco.ground_truth import read_annotations
    from rfdetr_hwd.evaluation.results import read_results
    from rfdetr_hwd.report.evaluation_report import ReportInputs

    data = replace(read_annotations(ground_truth), images=images or ground_truth.parent)
    return ReportInputs(
        data=data,
        detections=read_results(predictions, data.ground_truth()),
        protocol={"predictions": str(predictions), "ground_truth": str(ground_truth), "images": str(data.images)},
        tags=tags,
        has_images=data.images.is_dir(),
    )
