"""`rfdetr-hwd evaluate`: evaluate a checkpoint with COCO metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rfdetr_hwd.cli.options import (
    Corruptions,
    Overrides,
    Severities,
    Shifts,
    TileOverlap,
    TileSize,
    WeightsKind,
    WeightsPath,
)
from rfdetr_hwd.cli.report import TagsFile, read_run, say_tags, write_report
from rfdetr_hwd.cli.robustness import add_robustness, print_robustness
from rfdetr_hwd.console import digits, print_table, say
from rfdetr_hwd.errors import ConfigError, writing
from rfdetr_hwd.files import check_directory

if TYPE_CHECKING:
    import torch

    from rfdetr_hwd.config.robustness import Robustness
    from rfdetr_hwd.config.schema import Config
    from rfdetr_hwd.data.annotations import DetectionData
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.evaluation.measurement import Evaluation
    from rfdetr_hwd.prediction.tiles import Tiles


def evaluate(
    weights: WeightsPath,
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of the data settings, instead of the checkpoint's.")
    ] = None,
    split: Annotated[Literal["val", "test"], typer.Option(help="Split to evaluate on.")] = "val",
    which: WeightsKind = "auto",
    tags: TagsFile = None,
    shifts: Shifts = 0,
    corruptions: Corruptions = False,
    severities: Severities = None,
    tiles: TileSize = None,
    overlap: TileOverlap = 0.2,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory for metrics, detections and the report.", show_default="evaluate-SPLIT in the run directory"
        ),
    ] = None,
) -> None:
    """Evaluate a checkpoint with COCO metrics, and write a report."""
    from rfdetr_hwd.config.load import load_config, with_bit_depth
    from rfdetr_hwd.config.robustness import read_robustness
    from rfdetr_hwd.detector import Detector
    from rfdetr_hwd.evaluation.results import describe_protocol
    from rfdetr_hwd.report.evaluation_report import ReportInputs
    from rfdetr_hwd.runtime import distributed
    from rfdetr_hwd.runtime.process_group import process_group

    overrides = overrides or []
    wanted = read_robustness(shifts, corruptions, severities)
    with process_group() as device:
        # Load the checkpoint, whose model a configuration file does not change
        of_model = [text for text in overrides if text.startswith("model.")]
        detector = Detector.load(weights, which, of_model if config else overrides)
        in_tiles = _build_tiles(detector, tiles, overlap, wanted) if tiles is not None else None
        name = f"evaluate-{split}" if tiles is None else f"evaluate-{split}-tiles-{tiles}"
        directory = out or default_directory(weights, name)
        check_directory("--out", directory)
        settings = load_config(config, overrides) if config else detector.config
        settings = with_bit_depth(settings, detector.config.data.bit_depth)

        # Read the split with the preprocessing of the training
        data = read_detector_split(detector, settings, split)
        say_tags(tags, data)

        # Evaluate
        metrics, evaluation = measure_detector(detector, data, settings, directory, device, in_tiles)
        robustness = add_robustness(detector, evaluation, metrics, wanted, directory)
        if not distributed.is_main():
            return

        # Report what limits the metrics, then print them
        say_limits(detector, settings, data, len(evaluation.unreadable))
        title = f"{data.images}, {data.name}\n{detector.weights} weights of {detector.checkpoint.path}"
        _print_metrics(title, metrics)
        print_robustness(robustness)
        say(f"metrics: {directory / 'metrics.json'}\ndetections: {directory / 'predictions.json'}")
        say(f"ground truth: {directory / 'ground_truth.json'}")

        # Write the report
        protocol = {**describe_protocol(evaluation, data), **(in_tiles or detector).describe()}
        run = read_run(run_directory(weights))
        write_report(ReportInputs(data, evaluation.metric.detections, protocol, run, tags), directory)


def measure_detector(
    detector: "Detector",
    data: "DetectionData",
    settings: "Config",
    directory: Path,
    device: "torch.device",
    tiles: "Tiles | None" = None,
) -> "tuple[dict[str, float | None], Evaluation]":
    """Evaluate a detector on a split. Rank 0 writes metrics, detections and ground truth into the directory.

    Args:
        detector: The detector.
        data: The split.
        settings: Settings of data, evaluation and precision.
        directory: Directory of the files. It is made.
        device: Where the networks are.
        tiles: Detects in tiles of the images instead.

    Returns:
        The metrics, and the finished evaluation.
    """
    from rfdetr_hwd.data.shared_memory import foresee_shortage
    from rfdetr_hwd.evaluation.measurement import Evaluation
    from rfdetr_hwd.evaluation.results import describe_protocol, write_results
    from rfdetr_hwd.prediction.tiled_evaluation import measure_in_tiles
    from rfdetr_hwd.runtime import distributed
    from rfdetr_hwd.runtime.launch import num_local_ranks

    # Make the directory before the images are read, so that an error there comes early.
    evaluation = Evaluation.build(detector.model, data, settings, device)
    with writing("--out", directory):
        directory.mkdir(parents=True, exist_ok=True)
    if distributed.is_main():
        foresee_shortage({"evaluation": evaluation.loader.largest_batch}, settings.data.workers, num_local_ranks())
    # Evaluate, and write the files.
    metrics = measure_in_tiles(tiles, evaluation, data) if tiles else evaluation.measure(detector.network)
    if distributed.is_main():
        protocol = {**describe_protocol(evaluation, data), **(tiles or detector).describe()}
        write_results(directory, metrics, protocol, evaluation.metric.detections, data)
    return metrics, evaluation


def _build_tiles(detector: "Detector", size: int, overlap: float, robustness: "Robustness") -> "Tiles":
    """Return what detects in tiles.

    Raises:
        ConfigError: The tiles do not fit the model, or another option.
    """
    from rfdetr_hwd.prediction.tiles import Tiles
    from rfdetr_hwd.runtime import distributed

    if distributed.world_size() > 1:
        raise ConfigError("--tiles evaluates in one process: start it without torchrun")
    if robustness.shifts or robustness.corruptions:
        raise ConfigError("--tiles cannot be measured with --shifts or --corruptions: remove them")
    return Tiles(detector, size, overlap)


def default_directory(weights: Path, name: str) -> Path:
    """Return the directory of a name in the run directory, or in the checkpoint directory without a run."""
    run = run_directory(weights)
    return (run if (run / "config.yaml").exists() else weights) / name


def run_directory(weights: Path) -> Path:
    """Return the directory that is the run's if the weights are those of a run."""
    return weights if (weights / "config.yaml").exists() else weights.resolve().parent.parent


def read_detector_split(detector: "Detector", settings: "Config", split: Literal["val", "test"]) -> "DetectionData":
    """Return a split as the detector's training would read it."""
    from rfdetr_hwd.checkpoint.data_root import locate_data
    from rfdetr_hwd.data.detect import find_data
    from rfdetr_hwd.training.validation_split import read_as_trained

    layout = find_data(locate_data(settings.data, detector.checkpoint.run))
    return read_as_trained(settings.data, detector.checkpoint, layout, split)


def say_limits(detector: "Detector", settings: "Config", data: "DetectionData", num_unreadable: int) -> None:
    """Report properties of the dataset, the preprocessing and the settings that limit the metrics."""
    from rfdetr_hwd.checkpoint.record import recorded_config
    from rfdetr_hwd.data.decoding_threads import measure_split
    from rfdetr_hwd.data.deep_images import describe_bit_depth
    from rfdetr_hwd.training.limits import say_ap_limit

    # The images, read otherwise than they are stored, or than in training
    for _, reason in describe_bit_depth(measure_split(data, settings.train.seed), data.options.bit_depth):
        say(f"{data.name}: {reason}")
    if (trained := recorded_config(detector.checkpoint).data.exif) != settings.data.exif:
        say(f"data.exif is {settings.data.exif} here, but was {trained} in training")

    # The classes that the model or the dataset lacks
    classes = data.map_classes(detector.class_names)
    if classes.only_model:
        say(f"classes only in the model, not evaluated: {', '.join(classes.only_model)}")
    if classes.only_dataset:
        say(f"classes only in the dataset, with an AP of 0 in the mean: {', '.join(classes.only_dataset)}")

    # The detections per image, and the images without any
    say_ap_limit(data, settings.evaluation.max_dets)
    if num_unreadable:
        say(f"unreadable images, whose objects count as missed: {num_unreadable}")


def _print_metrics(title: str, metrics: Mapping[str, float | None]) -> None:
    """Print COCO's metrics, four digits each, and the AP of each class."""
    from rfdetr_hwd.evaluation.coco import COCO_METRICS

    names = [*COCO_METRICS, *(name for name in metrics if name.startswith("AP@"))]
    print_table(title, ("metric", "value"), [(name, digits(metrics[name])) for name in names])
    classes = [(name.removeprefix("AP/"), digits(value)) for name, value in metrics.items() if name.startswith("AP/")]
    print_table("AP of each class", ("class", "AP"), classes)
